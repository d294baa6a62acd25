"""`m2f predict` with files, folders and names of all kinds; a stub stands for the model."""

import contextlib
import errno
import functools
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from m2f_jax.cli import main, predict
from m2f_jax.cli.predicting import layout, writing
from m2f_jax.inference.prefetching import Pending
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.labels import Label

LABELS = (Label(id=301, name="cat", is_thing=True), Label(id=557, name="dog", is_thing=True))
OTHERS = (LABELS[0], Label(id=557, name="dingo", is_thing=True))


class Stub:
    """Finds two objects, whose scores are the red and the green of the first pixel."""

    capacity = 1

    def prepare(self, image):
        return SimpleNamespace(pixels=image, bucket=None)

    def submit(self, batch, task, *, threshold=0.0, top_k=100):
        return [
            Pending(functools.partial(segment, x.pixels, task, threshold, top_k)) for x in batch
        ]


def segment(image, task, threshold, top_k):
    height, width, _ = image.shape
    labels = np.arange(height * width).reshape(height, width) % 2
    if task == "semantic":
        return labels
    scores = image[0, 0, :2].astype(np.float32) / 255
    if task == "panoptic":
        segments = [Segment(id=1, label=1, is_thing=True, score=float(scores[0]))]
        return PanopticSegmentation(segment_map=labels.astype(int), segments=tuple(segments))
    kept = np.flatnonzero(scores >= threshold)[:top_k]
    return InstanceSegmentation.from_masks(
        scores=scores[kept],
        labels=kept,
        masks=np.stack([labels == 0, labels == 1])[kept],
        queries=kept,
    )


def picture(path: Path, red: int = 200, size=(6, 4), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 150, 0)).save(path, **options)
    return path


class Runs:
    """Runs the command beside a model, whose facts can be changed from run to run."""

    def __init__(self, monkeypatch, capsys):
        self.capsys, self.model = capsys, {}
        monkeypatch.setattr(predict, "open_checkpoint", self.open)

    def open(self, command):
        facts = {"labels": LABELS, "dtype": "float32", "weights": "w", "processor": "p"}
        facts |= {"task": command.task or "instance", "top_k": command.top_k or 100}
        return predict.Model(segmenter=Stub(), **{**facts, **self.model})

    def __call__(self, *arguments, out) -> int:
        """The exit code; `lines` has what was printed."""
        code = main(["predict", *map(str, arguments), "--out", str(out)])
        self.text = self.capsys.readouterr().err
        self.lines = self.text.splitlines()
        return code


@pytest.fixture
def run(monkeypatch, capsys):
    return Runs(monkeypatch, capsys)


def read(path: Path):
    return json.loads(path.read_text())


def reds(out: Path) -> dict[int | str, int]:
    """The red of each image in predictions.json, by id."""
    first = {x["image_id"]: x["score"] for x in reversed(read(out / "predictions.json"))}
    return {image_id: round(score * 255) for image_id, score in first.items()}


def files(out: Path) -> set[str]:
    return {x.relative_to(out).as_posix() for x in out.rglob("*") if x.is_file()}


def test_results_of_another_folder_are_not_taken_for_these(run, tmp_path):
    for day, red in (("monday", 200), ("tuesday", 220)):
        picture(tmp_path / day / "p.png", red)
    out = tmp_path / "o"
    assert run(tmp_path / "monday", out=out) == 0
    assert run(tmp_path / "tuesday", out=out) == 1
    [line] = run.lines
    assert str(tmp_path / "monday" / "p.png") in line
    assert f"{tmp_path / 'tuesday' / 'p.png'} is another image" in line
    assert reds(out) == {"p": 200}
    assert run(tmp_path / "tuesday", "--overwrite", out=out) == 0
    assert reds(out) == {"p": 220}


def test_a_folder_that_has_moved_is_known_by_its_contents(run, tmp_path):
    picture(tmp_path / "before" / "sub" / "p.png")
    assert run(tmp_path / "before", out=tmp_path / "o") == 0
    (tmp_path / "before").rename(tmp_path / "after")
    assert run(tmp_path / "after", out=tmp_path / "o") == 0
    assert "1 of 1 images are done already" in run.text


def test_a_picture_is_known_by_its_content(run, tmp_path):
    changed, same = picture(tmp_path / "pic" / "p.png"), picture(tmp_path / "pic" / "q.png", 250)
    out, times = tmp_path / "o", os.stat(changed)
    assert run(tmp_path / "pic", out=out) == 0
    kept = (out / "results" / "q.json").stat().st_mtime_ns
    picture(changed, 220)
    assert changed.stat().st_size == times.st_size
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.utime(same)
    assert run(tmp_path / "pic", out=out) == 0
    assert f"{changed} has changed, and is done anew" in run.lines
    assert "1 of 2 images are done already" in run.lines
    assert reds(out) == {"p": 220, "q": 250}
    assert (out / "results" / "q.json").stat().st_mtime_ns == kept


def test_results_of_a_former_content_go_where_the_new_one_is_damaged(run, tmp_path):
    path, out = picture(tmp_path / "pic" / "p.png"), tmp_path / "o"
    picture(tmp_path / "pic" / "q.png")
    assert run(tmp_path / "pic", "--task", "semantic", out=out) == 0
    path.write_bytes(b"no image")
    assert run(tmp_path / "pic", "--task", "semantic", out=out) == 1
    assert [x["file_name"] for x in read(out / "images.json")] == ["q.png"]
    assert not [name for name in files(out) if "/p." in name]


def test_results_of_an_image_that_cannot_be_read_now_are_kept(run, tmp_path):
    path, out = picture(tmp_path / "pic" / "p.png"), tmp_path / "o"
    picture(tmp_path / "pic" / "q.png", 210)
    assert run(tmp_path / "pic", out=out) == 0
    path.unlink()
    path.symlink_to("nowhere.png")
    assert run(tmp_path / "pic", out=out) == 1
    assert [line for line in run.lines if line.startswith("m2f: ") and str(path) in line]
    assert reds(out) == {"p": 200, "q": 210}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"weights": "other"}, [], "other weights"),
        (
            {"labels": OTHERS},
            [],
            "other labels",
        ),
        ({"processor": "other"}, [], "other processor"),
        ({"dtype": "bfloat16"}, [], "dtype float32 there, bfloat16 now"),
        ({}, ["--task", "semantic"], "task instance there, semantic now"),
        ({}, ["--threshold", "0.25"], "threshold 0.5 there, 0.25 now"),
        ({}, ["--top-k", "7"], "top_k 100 there, 7 now"),
        ({}, ["--native"], "native False there, True now"),
    ],
)
def test_another_model_or_setting_is_refused(model, options, message, run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, out=out) == 0
    before = {name: (out / name).read_bytes() for name in files(out)}
    run.model = model
    assert run(path, *options, out=out) == 1
    [line] = run.lines
    assert message in line
    assert "--overwrite" in line
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert run(path, *options, "--overwrite", out=out) == 0


def test_the_same_model_elsewhere_is_the_same(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, "--model", "here", out=out) == 0
    assert run(path, "--model", "there", out=out) == 0
    assert "1 of 1 images are done already" in run.text


def test_all_that_results_holds_is_listed(run, tmp_path):
    out = tmp_path / "o"
    for name, red in (("first/a.png", 200), ("second/b.png", 210)):
        assert run(picture(tmp_path / name, red).parent, out=out) == 0
    assert reds(out) == {"a": 200, "b": 210}
    assert "predictions.json also lists what earlier runs left, 1 in number" in run.text
    images = [{"file_name": f"{x}.png", "height": 4, "id": x, "width": 6} for x in "ab"]
    assert read(out / "images.json") == images


def test_an_earlier_version_is_refused(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    (out / "results").mkdir(parents=True)
    (out / "run.json").write_text('{"model": "streets", "threshold": 0.5}')
    (out / "results" / "old.json").write_text("[]")
    assert run(path, out=out) == 1
    assert f"{out} holds results of another version" in run.text
    assert run(path, "--overwrite", out=out) == 0
    assert reds(out) == {"p": 200}


@pytest.mark.parametrize("text", ["[]", "{", '{"image": {}, "annotations": []}', '{"image": 3}'])
def test_a_file_of_others_among_the_results_is_named(text, run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, out=out) == 0
    (out / "results" / "mine.json").write_text(text)
    assert run(path, out=out) == 1
    [line] = run.lines
    assert str(out / "results" / "mine.json") in line


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["left/000001.png", "right/000001.png"], ["left/000001", "right/000001"]),
        (["7.png", "007.png", "+7.png"], ["7", "007", "+7"]),
        (["\u00b2\u00b3.png", "good.png", "\u0663.png"], ["\u00b2\u00b3", "good", "\u0663"]),
        (["a.png", "a.bmp", "a.png.bmp"], ["a.png", "a.bmp", "a.png.bmp"]),
        (["a.png", "A.bmp"], ["a.png", "A.bmp"]),
        (["a.png", "a.json/b.png", "a.jpg/b.png"], ["a", "a.json/b", "a.jpg/b"]),
        (["a.json/b.png", "a.json_/b.png"], ["a.json/b", "a.json_/b"]),
        (["000000000139.png", "x/000000000285.png"], [139, 285]),
        (["a/000000000139.png", "b/000000000139.png"], ["a/000000000139", "b/000000000139"]),
        (["000000000139.png", "1.png"], ["000000000139", "1"]),
    ],
)
@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_every_image_has_an_id_and_files_of_its_own(task, names, ids, run, tmp_path):
    wanted = {}
    for i, (name, image_id) in enumerate(zip(names, ids, strict=True)):
        picture(tmp_path / "in" / name, 200 + i)
        wanted[image_id] = name
    out = tmp_path / "o"
    for _ in range(2):
        assert run(tmp_path / "in", "--task", task, out=out) == 0
        images = read(out / "images.json")
        assert {x["id"]: x["file_name"] for x in images} == wanted
        for kind in ("overlays", "results"):
            assert len([name for name in files(out) if name.startswith(kind)]) == len(names)
    if task == "panoptic":
        content = read(out / "predictions.json")
        assert content["images"] == images
        maps = {x["image_id"]: out / "maps" / x["file_name"] for x in content["annotations"]}
        assert len(set(maps.values())) == len(names)
        assert all(path.is_file() for path in maps.values())
    else:
        assert reds(out) == {image_id: 200 + i for i, image_id in enumerate(ids)}


def test_inputs_that_share_names_are_named_from_the_folder_that_holds_all(run, tmp_path):
    paths = [picture(tmp_path / "in" / x / "1.png", 200 + i) for i, x in enumerate("ab")]
    for i, inputs in enumerate((paths, [path.parent for path in paths])):
        assert run(*inputs, out=tmp_path / f"o{i}") == 0
        assert reds(tmp_path / f"o{i}") == {"a/1": 200, "b/1": 201}


def test_an_image_keeps_its_name_when_others_join_it(run, tmp_path):
    first, second = (
        picture(tmp_path / "in" / x, 200 + i) for i, x in enumerate(("a.png", "a.bmp"))
    )
    out = tmp_path / "o"
    assert run(first, out=out) == 0
    assert run(first.parent, out=out) == 0
    assert reds(out) == {"a": 200, "a.bmp": 201}
    third = picture(tmp_path / "in" / "sub" / "b.png", 202)
    assert run(third, out=out) == 0
    assert run(second.parent, out=out) == 0
    assert reds(out) == {"a": 200, "a.bmp": 201, "b": 202}


def test_an_image_named_twice_is_one(run, tmp_path, monkeypatch):
    path = picture(tmp_path / "in" / "sub" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert run("in", path, "in/*/*.png", "./in/../in", out=tmp_path / "o") == 0
    assert reds(tmp_path / "o") == {"sub/a": 200}


PARTS = ["a", "A", ".json", ".jpg", ".png", "_", ".", "é", "e\u0301", "7"]
COMPONENTS = st.lists(st.sampled_from(PARTS)).map("".join).filter(lambda x: x.strip("."))
NAMES = st.lists(COMPONENTS, min_size=1, max_size=3).map("/".join)


@given(st.lists(NAMES, unique=True), st.lists(NAMES, unique=True))
def test_names_ids_and_files_are_injective(earlier, later):
    taken = layout.result_names(earlier, {})
    names = layout.result_names(later, taken) | taken
    assert layout.result_names(earlier + later, names) == {x: names[x] for x in earlier + later}
    ids = layout.image_ids(names)
    assert len(set(ids.values())) == len(names) == len({*earlier, *later})
    stems = [layout.on_disk(layout.file_stem(name)) for name in names.values()]
    written = [f"{stem}{ending}" for stem in stems for ending in (".json", ".jpg", ".png")]
    assert len(set(written)) == len(written)
    folders = {"/".join(x.split("/")[:i]) for x in written for i in range(1, x.count("/") + 1)}
    assert not folders & set(written)


def test_an_image_too_large_for_jpeg_gets_a_png(run, tmp_path, monkeypatch):
    for name, size in (("a", (6, 4)), ("m", (1, 65_537)), ("w", (65_501, 1)), ("z", (65_500, 1))):
        picture(tmp_path / "in" / f"{name}.tif", size=size)
    monkeypatch.setattr(writing, "draw_instances", lambda image, *_: image)
    out = tmp_path / "o"
    assert run(tmp_path / "in", out=out) == 0
    overlays = {f"overlays/{x}" for x in ("a.jpg", "m.png", "w.png", "z.jpg")}
    assert overlays == {x for x in files(out) if x.startswith("overlays")}
    assert [line for line in run.lines if f"{out / 'overlays' / 'm.png'} is a PNG" in line]
    assert sorted(reds(out)) == ["a", "m", "w", "z"]


def test_the_output_folder_is_not_read(run, tmp_path):
    path = picture(tmp_path / "in" / "p.png")
    out = tmp_path / "in" / "out"
    for _ in range(2):
        assert run(path.parent, out=out) == 0
        assert run(tmp_path / "in" / "**" / "*.*", out=out) == 0
        assert reds(out) == {"p": 200}
    assert run(path.parent, out=tmp_path / "in" / "other") == 0
    assert f"{out} holds the results of m2f predict, and is left out" in run.text
    assert reds(tmp_path / "in" / "other") == {"p": 200}
    assert run(path.parent, out=path.parent) == 1
    assert "choose another --out" in run.text
    assert sorted(os.listdir(path.parent)) == ["other", "out", "p.png"]


def test_a_folder_that_cannot_be_read_is_named(run, tmp_path, monkeypatch):
    picture(tmp_path / "in" / "p.png")
    closed = picture(tmp_path / "in" / "sub" / "q.png").parent
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert run(tmp_path / "in", out=tmp_path / "o") == 1
    assert f"m2f: {closed} can't be searched for images (Permission denied)" in run.lines
    assert reds(tmp_path / "o") == {"p": 200}


def test_links_in_circles_end_and_those_to_nowhere_are_named(run, tmp_path):
    top = picture(tmp_path / "in" / "p.png").parent
    picture(tmp_path / "elsewhere" / "q.png", 210)
    (top / "self.png").symlink_to("self.png")
    (top / "gone.png").symlink_to("nowhere.png")
    (top / "circle").symlink_to(top)
    (top / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(top / "pipe.png")
    assert run(top, out=tmp_path / "o") == 1
    for name in ("self.png", "gone.png", "pipe.png"):
        [line] = [line for line in run.lines if str(top / name) in line]
        assert line.startswith("m2f: ")
    assert reds(tmp_path / "o") == {"p": 200, "linked/q": 210}


@pytest.mark.parametrize(
    "name", ["IMG [copy].jpg", "x[b]y.jpg", "x[/b].jpg", "[red]", "a\x1b[2J.png", "line\nbreak.png"]
)
def test_damaged_images_are_named_as_they_are(name, run, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("not an image")
    picture(tmp_path / "in" / "good.png")
    assert run(tmp_path / "in" / "good.png", path, out=tmp_path / "o") == 1
    shown = str(path).replace("\x1b", r"\x1b").replace("\n", r"\n")
    [line] = [line for line in run.lines if shown in line]
    assert line.startswith("m2f: ")
    assert reds(tmp_path / "o") == {"good": 200}


def test_names_that_are_not_text(run, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff.png"))
    with contextlib.suppress(OSError):  # some disks have none of these
        picture(path)
        assert run(path.parent, out=tmp_path / "o") == 0
        assert reds(tmp_path / "o") == {"\udcff": 200}


@pytest.mark.parametrize("length", [236, 250, 251])
def test_long_names(length, run, tmp_path):
    path = picture(tmp_path / "in" / f"{'x' * length}.png")
    picture(tmp_path / "in" / "y.png")
    fits = length + len(".json") <= 255
    assert run(path.parent, out=tmp_path / "o") == (0 if fits else 1)
    assert len(reds(tmp_path / "o")) == 1 + fits
    assert fits or [line for line in run.lines if str(path) in line and "too long" in line]


def test_all_kinds_of_images_in_a_folder(run, tmp_path):
    names = ["one.png", "two.gif", "three.jfif", "four.webp", "five.TGA", "six.jp2", "seven.ico"]
    for name in names:
        picture(tmp_path / "in" / name, size=(32, 32))
    for name in ("notes.txt", "data.h5", "film.mpg", "figure.eps"):
        (tmp_path / "in" / name).write_text("no picture")
    assert run(tmp_path / "in", out=tmp_path / "o") == 0
    assert {x["file_name"] for x in read(tmp_path / "o" / "images.json")} == set(names)
    (tmp_path / "in" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert run(tmp_path / "in", out=tmp_path / "o") == 1
    assert [line for line in run.lines if "photo.heic" in line]


@pytest.mark.parametrize(("name", "count"), [("a.tif", 2), ("b.gif", 3), ("c.webp", 2)])
def test_the_first_of_several_pages_is_said(name, count, run, tmp_path):
    pages = [Image.new("RGB", (6, 4), (200 + i, 150, 90 * i)) for i in range(count)]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    pages[0].save(path, save_all=True, append_images=pages[1:], lossless=True)
    assert run(path, out=tmp_path / "o") == 0
    assert f"{path}: the first of {count} pages was segmented" in run.lines
    assert reds(tmp_path / "o") == {path.stem: 200}


def test_semantic_maps_hold_large_ids(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    for ids, mode in (((301, 557), "I;16"), ((0, 65_535), "I;16"), ((0, 255), "L")):
        labels = [Label(id=i, name=str(i), is_thing=True) for i in ids]
        run.model = {"labels": tuple(labels)}
        assert run(path, "--task", "semantic", "--overwrite", out=out) == 0
        with Image.open(out / "maps" / "p.png") as png:
            assert png.mode == mode
            assert set(np.unique(np.asarray(png))) == set(ids)
        assert {x["category_id"] for x in read(out / "predictions.json")} == set(ids)


@pytest.mark.parametrize("number", [-1, 65_536])
def test_ids_that_no_map_can_hold_are_refused(number, run, tmp_path):
    path = picture(tmp_path / "p.png")
    run.model = {"labels": (LABELS[0], Label(id=number, name="odd", is_thing=True))}
    assert run(path, "--task", "semantic", out=tmp_path / "o") == 1
    assert f"the class odd has the id {number}" in run.text
    assert run(path, "--task", "panoptic", out=tmp_path / "o") == 0


def annotations(path: Path, images) -> Path:
    sized = [{"height": 4, "width": 6, **x} if isinstance(x, dict) else x for x in images or ()]
    categories = [{"id": x.id, "name": x.name} for x in LABELS]
    content = {"images": images and sized, "annotations": [], "categories": categories}
    path.write_text(json.dumps(content))
    return path


def test_pycocotools_takes_the_masks_areas(run, tmp_path):
    picture(tmp_path / "in" / "0.png")
    file = annotations(tmp_path / "a.json", [{"id": 1, "file_name": "0.png"}])
    assert run(tmp_path / "in", "--annotations", file, "--threshold", "0", out=tmp_path / "o") == 0
    results = COCO(str(file)).loadRes(str(tmp_path / "o" / "predictions.json")).loadAnns([1, 2])
    for result in results:
        assert result["image_id"] == 1
        assert result["area"] == coco_mask.area(result["segmentation"]) == 12


def test_boxes_come_back_when_asked_for(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, out=out) == 0
    assert all("bbox" not in x for x in read(out / "predictions.json"))
    assert run(path, "--boxes", out=out) == 0
    for result in read(out / "predictions.json"):
        assert result["bbox"] == coco_mask.toBbox(result["segmentation"]).tolist()
    assert "1 of 1 images are done already" in run.text


def test_ids_of_annotations(run, tmp_path):
    out = tmp_path / "o"
    for i, name in enumerate(("0.png", "1.png", "sub/2.png", "3.png")):
        picture(tmp_path / "in" / name, 200 + i)
    images = [{"id": 7 - i, "file_name": f"{i}.png"} for i in range(2)]
    file = annotations(tmp_path / "a.json", [*images, {"id": 0, "file_name": "sub/2.png"}])
    assert run(tmp_path / "in", "--annotations", file, out=out) == 1
    [line] = [line for line in run.lines if "3.png" in line]
    assert f"1 of 4 images aren't in {file} and are left out" in line
    assert reds(out) == {7: 200, 6: 201, 0: 202}
    assert run(tmp_path / "in", out=out) == 0
    assert run(tmp_path / "in" / "0.png", "--annotations", file, out=out) == 1
    assert f"{out} holds results of 3.png, which isn't among the images of {file}" in run.text


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "images is null"),
        ([3], "images[0] is 3"),
        ([{"file_name": "p.png"}], "images[0] has no id"),
        ([{"id": 1}], "the image of the id 1 has no file_name"),
        ([{"id": 1.5, "file_name": "p.png"}], "images[0]: id is 1.5"),
        ([{"id": True, "file_name": "p.png"}], "images[0]: id is true"),
        ([{"id": None, "file_name": "p.png"}], "images[0]: id is null"),
        ([{"id": 1, "file_name": "p.png"}, {"id": 2, "file_name": "p.png"}], "another image's"),
        ([{"id": 1, "file_name": "p.png"}, {"id": 1, "file_name": "q.png"}], "share the id 1"),
        ([{"id": 1, "file_name": "else.png"}], "name the folder"),
    ],
)
def test_annotations_without_usable_images_are_named(images, message, run, tmp_path):
    path = picture(tmp_path / "p.png")
    file = annotations(tmp_path / "a.json", images)
    assert run(path, "--annotations", file, out=tmp_path / "o") == 1
    [line] = run.lines
    assert str(file) in line
    assert message in line
    assert not (tmp_path / "o").exists()


def test_exif_by_option(run, tmp_path):
    path = tmp_path / "p.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(path, exif=exif)
    for options, size in (([], (6, 4)), (["--ignore-exif", "--overwrite"], (4, 6))):
        assert run(path, *options, out=tmp_path / "o") == 0
        [image] = read(tmp_path / "o" / "images.json")
        assert (image["height"], image["width"]) == size
    assert run(path, out=tmp_path / "o") == 1
    assert "ignore_exif True there, False now" in run.text


def test_top_k(run, tmp_path):
    path = picture(tmp_path / "p.png")
    for count in (1, 2, 200):
        options = ["--top-k", count, "--threshold", "0", "--overwrite"]
        assert run(path, *options, out=tmp_path / "o") == 0
        assert len(read(tmp_path / "o" / "predictions.json")) == min(count, 2)


class Killed(BaseException):
    """The process ends here, and nothing after it has any effect."""


def killed_at(point: int, patch: pytest.MonkeyPatch):
    """Lets the process end at its `point`th change of the disk; what it wrote then is cut short."""
    left = iter(range(point))

    def dies() -> bool:
        return next(left, None) is None

    def patched(change, *, cut=False):
        def perform(path, *data, **options):
            if dies():
                if cut and not path.exists():
                    change(path, data[0][: len(data[0]) // 2], **options)
                raise Killed
            return change(path, *data, **options)

        return perform

    for name in ("write_text", "write_bytes"):
        patch.setattr(Path, name, patched(getattr(Path, name), cut=True))
    for name in ("replace", "unlink"):
        patch.setattr(Path, name, patched(getattr(Path, name)))


@pytest.mark.parametrize("before", ["nothing", "another picture", "other ids"])
def test_killed_at_any_point_nothing_is_lost(before, run, tmp_path):
    """Whatever the process was about to change, the next run ends in the same folder."""
    paths = [picture(tmp_path / "in" / f"{i}.png", 200 + i) for i in range(2)]
    arguments = [tmp_path / "in", "--task", "semantic"]
    assert run(*arguments, out=tmp_path / "before") == 0
    if before == "another picture":
        picture(paths[1], 210)
    elif before == "other ids":
        images = [{"id": 9 - i, "file_name": path.name} for i, path in enumerate(paths)]
        arguments += ["--annotations", annotations(tmp_path / "a.json", images)]
    assert run(*arguments, out=tmp_path / "whole") == 0
    wanted = {x: (tmp_path / "whole" / x).read_bytes() for x in files(tmp_path / "whole")}
    for point in range(100):
        out = tmp_path / f"o{point}"
        if before != "nothing":
            shutil.copytree(tmp_path / "before", out)
        with pytest.MonkeyPatch.context() as patch:
            killed_at(point, patch)
            with contextlib.suppress(Killed):
                run(*arguments, out=out)
                break
        for name in files(out):  # none is cut short
            assert name.endswith((".tmp", ".jpg", ".png")) or read(out / name) is not None
        if {"predictions.json", "images.json"} <= files(out):
            images = read(out / "images.json")
            assert {f"results/{Path(x['file_name']).stem}.json" for x in images} == {
                name for name in files(out) if name.startswith("results") and ".tmp" not in name
            }
            ids = {image["id"] for image in images}
            assert {x["image_id"] for x in read(out / "predictions.json")} == ids
        assert run(*arguments, out=out) == 0
        found = {x: (out / x).read_bytes() for x in files(out) if not x.endswith(".tmp")}
        assert found == wanted
    assert point >= 10


@pytest.mark.parametrize("place", ["overlays/02.jpg", "maps/02.png", "results/02.json"])
def test_a_full_disk_ends_the_run_with_one_line(place, run, tmp_path):
    for i in range(20):
        picture(tmp_path / "in" / f"{i:02}.png")
    out, arguments = tmp_path / "o", (tmp_path / "in", "--task", "semantic")
    replace = Path.replace

    def full(path, target):
        if target == out / place:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert run(*arguments, out=out) == 1
    lines = [line for line in run.lines if line.startswith("m2f: ")]
    assert lines == [f"m2f: {out / place}: No space left on device"]
    assert not (out / "predictions.json").exists()
    assert run(*arguments, out=out) == 0
    assert len(read(out / "images.json")) == 20


def test_a_full_disk_at_the_end_is_named(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run(path, out=out) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert run(path, out=out) == 1
    assert run.lines[-1] == f"m2f: {out / 'run.json'}: No space left on device"
