"""Files in YouTubeVIS's format: what is sound is read, and the rest is named by its place."""

import copy
import json
import logging

import numpy as np
import pytest

from m2f_jax.datasets.coco_format.tracks import check_video_file, read_video_file
from m2f_jax.datasets.published.ytvis import ytvis_dataset
from m2f_jax.masks.rle import compress, encode_rle

MASK = np.pad(np.ones((3, 4), bool), 2)  # 7 x 8
SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def sound():
    """A video of three frames with an object, in the second frame not to be seen."""
    return {
        "videos": [
            {"id": 4, "height": 7, "width": 8, "length": 3, "file_names": ["a/0.jpg"] * 3},
            {"id": 2, "height": 7, "width": 8, "length": 1, "file_names": ["b/0.jpg"]},
        ],
        "categories": [{"id": 9, "name": "cat"}],
        "annotations": [
            {
                "id": 5,
                "video_id": 4,
                "category_id": 9,
                "segmentations": [encode_rle(MASK), None, SQUARE],
                "areas": [12, None, 16],
                "iscrowd": 0,
            }
        ],
    }


def changed(name, **changes):
    content = copy.deepcopy(sound())
    content[name][0] |= changes
    return content


def test_what_is_sound_is_read():
    content = sound()
    [track] = check_video_file(content, "x").tracks
    assert track.outlines == (encode_rle(MASK)["counts"].encode(), None, SQUARE)
    assert (track.id, track.video_id, track.category_id) == (5, 4, 9)
    assert track.areas == (12, None, 16)
    assert not track.iscrowd
    for key in ("areas", "iscrowd"):
        del content["annotations"][0][key]
    del content["videos"][0]["length"]
    file = check_video_file(content, "x")
    assert [video.length for video in file.videos] == [3, 1]
    assert file.tracks[0].areas is None


def test_each_video_s_counts_are_checked_at_its_size_and_freed_of_empty_runs():
    content = sound()
    content["videos"][1] |= {"height": 5, "width": 6}
    counts = compress([10, 2, 0, 2, 16], (5, 6))
    track = {"size": [5, 6], "counts": counts.decode()}
    content["annotations"].append(
        {"id": 6, "video_id": 2, "category_id": 9, "segmentations": [track]}
    )
    last = check_video_file(content, "x").tracks[1]
    assert last.outlines == (compress([10, 4, 16], (5, 6)),) != (counts,)


CASES = {
    "annotations is null": {**sound(), "annotations": None},
    "f has no 'videos'; YouTubeVIS's format has the lists videos, categories and annotations": {
        "categories": [],
        "annotations": [],
    },
    r"videos\[0\] \(id 4\): length is 2, but there are 3 file_names": changed("videos", length=2),
    r"videos\[0\] \(id 4\): length is 0; it must be a number of frames": changed(
        "videos", length=0, file_names=None
    ),
    r"videos\[0\] \(id 4\): file_names\[0\]: file_name is '/a', which leads out": changed(
        "videos", file_names=["/a"] * 3
    ),
    r"videos\[0\] \(id 4\): height is null": changed("videos", height=None),
    r"videos\[0\] and \[1\] share the id 2": changed("videos", id=2),
}
OBJECTS = {
    "annotation 5: video_id is 7, which isn't the id of one of the videos": {"video_id": 7},
    "annotation 5: category_id is 1, which": {"category_id": 1},
    "segmentations has 1 entries, but video 4 has 3 frames": {"segmentations": [None]},
    "segmentations is null, not a list with one for each frame": {"segmentations": None},
    r"segmentations\[2\]: a polygon has 2 numbers": {"segmentations": [None, None, [[1, 2]]]},
    "frame 2: the run lengths add up to 3 pixels": {
        "segmentations": [None, None, {"size": [7, 8], "counts": "3"}]
    },
    "a mask's size is .8, 7., the image's .7, 8.": {
        "segmentations": [encode_rle(MASK.T), None, None]
    },
    "areas has 1 entries": {"areas": [1]},
    r"areas\[0\] is -1": {"areas": [-1, None, 1]},
    "iscrowd is 2": {"iscrowd": 2},
}


@pytest.mark.parametrize("message", CASES)
def test_damaged_files_are_refused(message):
    with pytest.raises(ValueError, match=message) as error:
        check_video_file(CASES[message], "f")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("message", OBJECTS)
def test_objects_that_cannot_be_used_are_refused_or_skipped(message, caplog):
    content = changed("annotations", **OBJECTS[message])
    with pytest.raises(ValueError, match=rf"f: annotation 5: .*{message.split(': ')[-1]}"):
        check_video_file(content, "f")
    with caplog.at_level(logging.WARNING, "m2f_jax"):
        assert check_video_file(content, "f", "skip").tracks == ()
    assert "f: left out are 1 x" in caplog.text


def test_layouts(tmp_path):
    def write(*names):
        path = tmp_path.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(sound()))
        return path

    with pytest.raises(FileNotFoundError, match=r"no split 'valid' of YouTubeVIS; expected SPLIT"):
        ytvis_dataset(tmp_path)
    write("valid", "instances.json")
    nested = ytvis_dataset(tmp_path)
    flat = write("valid.json")
    for dataset in (nested, ytvis_dataset(tmp_path), ytvis_dataset(flat)):
        assert [video.id for video in dataset.images] == [2, 4]
        frame = tmp_path / "valid" / "JPEGImages" / "b" / "0.jpg"
        assert dataset.files(0, "instance") == (dataset.annotations, frame)
    elsewhere = ytvis_dataset(flat, frames=tmp_path / "frames")
    assert elsewhere.images[0].image == tmp_path / "frames" / "b"
    with pytest.raises(FileNotFoundError, match=r"none\.json is missing; expected a YouTubeVIS"):
        read_video_file(tmp_path / "none.json")
