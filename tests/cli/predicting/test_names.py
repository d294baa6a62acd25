"""Every image has a name, an id and files of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2f_jax.cli.predicting import layout, writing
from tests.cli.predicting.conftest import files, picture, read, reds


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
