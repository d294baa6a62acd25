"""`m2f predict --video`: a video file and a folder of frames, in clips, as users meet it."""

import json
import struct
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from m2f_jax.eval.predictions.ytvis_results import TrackResults
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.cli.predicting.video import stored
from m2f_jax.cli.predicting.video_file import AnnotatedFile, FileFrames
from m2f_jax.datasets.published.ytvis import ytvis_dataset
from m2f_jax.files.folder_lock import only_run_in
from m2f_jax.inference.clips import Clip
from m2f_jax.masks.rle import encode_rle
from m2f_jax.visualization.color import VIVID_COLORS
from tests.conftest import VIDEO_LABELS

SIZE = (32, 64)
LENGTH = 5


def picture(t):
    pixels = np.full((*SIZE, 3), 60, np.uint8)
    pixels[8:24, 5 * t + 4 : 5 * t + 24] = (220, 80, 40)
    return pixels


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    for t in range(LENGTH):
        Image.fromarray(picture(t)).save(path / f"{t:03d}.png")
    (path / "notes.txt").write_text("no frame")
    return path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "street.mp4"
    with AnnotatedFile(path, Fraction(10)) as video:
        for t in range(LENGTH):
            video.write(picture(t))
    return path


def remux(file, other, **options):
    with av.open(str(file)) as source, av.open(str(other), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)


def predict(video, *arguments, out):
    options = ["--threshold", "0.2", "--clip-length", "3", "--clip-overlap", "1"]
    named = ["--video", video, "--out", out, *arguments]
    return main(["predict", *map(str, [*options, *named])])


def read(out):
    return json.loads((out / "predictions.json").read_text())


def test_a_folder_of_frames(folder, video_model, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(folder, "--model", video_model, out=out) == 0
    said = capsys.readouterr().err
    assert "5 frames in 2 clips of 3, which share 1 or more; objects were joined" in said
    tracks = read(out)
    assert tracks
    assert [len(track["segmentations"]) for track in tracks] == [LENGTH] * len(tracks)
    assert all(any(track["segmentations"]) for track in tracks)
    scores = [track["score"] for track in tracks]
    assert scores == sorted(scores, reverse=True)
    names = [f"{t:03d}.png" for t in range(LENGTH)]
    assert sorted(x.name for x in (out / "annotated").iterdir()) == names
    with Image.open(out / "annotated" / "000.png") as drawn:
        assert (np.asarray(drawn) != picture(0)).any()
    [video] = json.loads((out / "videos.json").read_text())
    assert video == {"id": "frames", "length": LENGTH, "height": 32, "width": 64} | {
        "file_names": names
    }
    # With the ground truth's header around it, it is what m2f eval ytvis reads.
    categories = [{"id": label.id, "name": label.name} for label in VIDEO_LABELS]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"videos": [video], "categories": categories, "annotations": []}))
    found = TrackResults.find(out, ytvis_dataset(truth)).predictions["frames"]
    assert len(found.scores) == len(tracks)

    before = (out / "predictions.json").stat().st_mtime_ns
    assert predict(folder, "--model", video_model, out=out) == 0
    assert "is done already" in capsys.readouterr().err
    assert (out / "predictions.json").stat().st_mtime_ns == before
    assert predict(folder, "--model", video_model, "--top-k", 3, out=out) == 1
    assert "top_k 10 there, 3 now" in capsys.readouterr().err
    (folder / "004.png").unlink()
    assert predict(folder, "--model", video_model, out=out) == 1
    assert "results of other settings (other video)" in capsys.readouterr().err


def test_a_file_goes_on_where_it_stopped(file, video_model, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(file, "--model", video_model, out=out) == 0
    expected = read(out)
    with av.open(str(out / "annotated.mp4")) as video:
        assert video.streams.video[0].average_rate == 10
        assert sum(1 for _ in video.decode(video=0)) == LENGTH
    (out / "predictions.json").unlink()
    (out / "annotated.mp4").unlink()
    (out / "clips" / "00000002.json").unlink()
    kept = out / "clips" / "00000000.json"
    changed = json.loads(kept.read_text())
    changed["scores"] = [0] * len(changed["scores"])  # to see that it is taken up
    kept.write_text(json.dumps(changed))
    assert predict(file, "--model", video_model, out=out) == 0
    assert (out / "annotated.mp4").exists()
    again = read(out)
    assert again[0]["score"] < 0.8 * expected[0]["score"]
    masks = [sorted(json.dumps(x["segmentations"]) for x in tracks) for tracks in (expected, again)]
    assert masks[0] == masks[1]

    (out / "predictions.json").unlink()
    kept.write_text('{"size": [32, 64], "scores": [], "labels": [], "counts": [["1"]]}')
    assert predict(file, "--model", video_model, out=out) == 1
    assert f"{kept}: scores, labels and counts must be equally" in capsys.readouterr().err
    assert predict(file, "--model", video_model, "--overwrite", out=out) == 0
    assert read(out) == expected


def test_a_file_that_is_cut_short_is_told(file, video_model, tmp_path, capsys):
    cut = tmp_path / "cut.mp4"
    remux(file, cut, movflags="faststart")  # its head is at the beginning
    with av.open(str(cut)) as whole:
        last = max(packet.pos for packet in whole.demux(video=0) if packet.size)
    cut.write_bytes(cut.read_bytes()[:last])
    out = tmp_path / "out"
    assert predict(cut, "--model", video_model, out=out) == 0
    said = capsys.readouterr().err
    assert f"{cut} has 4 frames that can be read, of the 5 that it should have" in said
    assert json.loads((out / "videos.json").read_text())[0]["length"] == 4


def test_an_object_has_one_color_through_time(folder, video_model, tmp_path):
    out = tmp_path / "out"
    assert predict(folder, "--model", video_model, out=out) == 0
    (out / "predictions.json").unlink()
    lefts = (2, 40)
    for start, order in ((0, (0, 1)), (2, (1, 0))):
        masks = [np.zeros(SIZE, bool) for _ in lefts]
        for mask, left in zip(masks, lefts, strict=True):
            mask[8:24, left : left + 16] = True
        counts = [[encode_rle(masks[i])["counts"]] * 3 for i in order]
        counts.append([""] * 3)  # what has no pixel is no track
        scores, labels = [*(0.5 + 0.2 * i for i in order), 0.9], [0, 0, 0]
        content = {"size": SIZE, "scores": scores, "labels": labels, "counts": counts}
        (out / "clips" / f"{start:08d}.json").write_text(json.dumps(content))
    assert predict(folder, "--model", video_model, out=out) == 0
    for t in range(LENGTH):
        pixels = np.asarray(Image.open(out / "annotated" / f"{t:03d}.png"))
        for color, left in zip(VIVID_COLORS, lefts, strict=False):
            edge = pixels[23, left : left + 16]
            assert (edge == color).all(axis=1).any()
    assert [track["score"] for track in read(out)] == pytest.approx([0.7, 0.5])


@pytest.mark.parametrize(
    "change",
    [{"size": (64, 32)}, {"labels": [3]}, {"labels": [-1]}, {"counts": [["", ""]]}],
)
def test_instances_of_another_clip_are_not_taken_up(change, tmp_path):
    clip = Clip(0, [picture(t) for t in range(3)], 0)
    good = {"size": SIZE, "scores": [0.5], "labels": [2], "counts": [["", "", ""]]}
    path = tmp_path / "00000000.json"
    path.write_text(json.dumps(good))
    assert stored(path, clip, 3).labels == (2,)
    path.write_text(json.dumps(good | change))
    with pytest.raises(ValueError, match=rf"{path} is of another clip; remove it"):
        stored(path, clip, 3)


def test_frames_of_a_file(file, tmp_path):
    video = FileFrames(file, upright=True)
    assert (video.count, video.rate) == (LENGTH, 10)
    for t, frame in enumerate(video):
        assert abs(frame.astype(int) - picture(t)).mean() < 8  # as far as the codec goes
    other = tmp_path / "street.mkv"  # of a kind that doesn't say how many frames there are
    remux(file, other)
    assert FileFrames(other, upright=True).count == LENGTH
    odd = tmp_path / "odd.mp4"
    with AnnotatedFile(odd, Fraction(25)) as written:
        written.write(picture(0)[:-1, :-1])
    assert [frame.shape for frame in FileFrames(odd, upright=True)] == [(*SIZE, 3)]


def test_a_file_that_was_filmed_upright_is_turned(file):
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 44  # x' = -y, y' = x: the upper left corner goes to the right
    data[matrix : matrix + 20] = struct.pack(">5i", 0, 1 << 16, 0, -1 << 16, 0)
    file.write_bytes(data)
    expected = np.rot90(picture(0), -1)
    frame = next(iter(FileFrames(file, upright=True)))
    assert frame.shape == expected.shape
    assert abs(frame.astype(int) - expected).mean() < 8
    assert next(iter(FileFrames(file, upright=False))).shape == (*SIZE, 3)


def test_what_cannot_be_segmented_is_refused(folder, file, video_model, tmp_path, capsys):
    def refused(video, *arguments, out="out"):
        assert predict(video, *arguments, out=tmp_path / out) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("m2f: ")
        return error

    assert "is no model of videos, which --video needs" in refused(folder)
    assert "--tile is for images, not for a --video" in refused(folder, "--tile", 64)
    assert "name images or a --video" in refused(folder, tmp_path / "a.jpg")
    assert "--clip-overlap 3 must be less than --clip-length 3" in refused(
        folder, "--clip-overlap", 3
    )
    assert "nowhere is missing; name a video file" in refused(tmp_path / "nowhere")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(file.read_bytes()[:300])
    assert f"{broken} can't be read as a video" in refused(broken)
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    assert f"{text} can't be read as a video" in refused(text)
    image = tmp_path / "frame.mp4"
    Image.fromarray(picture(0)).save(image, "PNG")
    assert f"{image} is an image, not a video; segment it by itself" in refused(image)
    assert "--actors is for images, not for a --video" in refused(folder, "--actors", 2)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} holds no images" in refused(empty)
    Image.fromarray(picture(0)[:20]).save(folder / "005.png")
    model = ("--model", video_model)
    error = refused(folder, *model, out="sizes")
    assert "005.png is 20 x 64 (height x width), and the video's first frame 32 x 64" in error
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "holds files that aren't of m2f predict" in refused(folder, *model, out="other")
    out = tmp_path / "other" / "file"
    assert f"{out} is a file; name a folder with --out" in refused(folder, *model, out=out)
    (tmp_path / "held").mkdir()
    with only_run_in(tmp_path / "held", "predict.lock"):
        error = refused(folder, *model, out="held")
    assert f"{tmp_path / 'held'} is in use by another m2f predict; wait for it" in error
    arguments = ["predict", str(folder), "--model", str(video_model), "--out", str(tmp_path / "x")]
    assert main(arguments) == 1
    assert "is a model of videos; give it a video with --video" in capsys.readouterr().err


def test_without_pyav_one_line_says_what_to_install(file, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "m2f_jax.cli.predicting.video_file")
    assert predict(file, out=tmp_path / "out") == 1
    message = "m2f: m2f predict needs av: pip install 'm2f-jax[video]'\n"
    assert capsys.readouterr().err == message
    assert predict(folder, out=tmp_path / "out") == 1
    assert "is no model of videos" in capsys.readouterr().err
