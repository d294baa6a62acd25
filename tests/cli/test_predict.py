"""`m2f predict` with a model, as its users meet it: results, reruns, bad input, exit codes."""

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from m2f_jax.cli import main
from tests.conftest import GOLDEN

MODEL = str(GOLDEN / "tiny_w7_odd" / "hf")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "street.png"
    pixels = np.load(GOLDEN / "tiny_w7_odd" / "network.npz")["image_0"].transpose(1, 2, 0)
    Image.fromarray(pixels).save(path)
    return path


def predict(*arguments, out, model=MODEL):
    return main(["predict", *map(str, arguments), "--model", str(model), "--out", str(out)])


def test_instances_as_coco_results(image, tmp_path, golden_scores, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "kept"))
    out = tmp_path / "out"
    assert predict(image, "--threshold", "0", out=out) == 0
    programs = (tmp_path / "kept" / "programs").iterdir()
    expected = {"resize", "features", "pyramid", "predictions", "instance"}
    assert {x.name.partition("-")[0] for x in programs} == expected
    results = json.loads((out / "predictions.json").read_text())
    np.testing.assert_allclose([r["score"] for r in results], golden_scores, atol=1e-4)
    assert {r["image_id"] for r in results} == {"street"}
    assert {r["category_id"] for r in results} <= set(range(1, 9))
    assert results[0]["segmentation"]["size"] == [58, 75]
    with Image.open(out / "overlays" / "street.jpg") as overlay:
        assert overlay.size == (75, 58)


def test_batches_change_nothing(image, tmp_path):
    pixels = np.asarray(Image.open(image))
    for i in range(3):
        Image.fromarray(np.roll(pixels, 9 * i, axis=1)).save(tmp_path / f"{i}.png")
    pictures = [tmp_path / f"{i}.png" for i in range(3)]
    found = []
    for size in (1, 2):
        out = tmp_path / f"out{size}"
        assert predict(*pictures, "--threshold", "0", "--batch-size", size, out=out) == 0
        found.append(json.loads((out / "predictions.json").read_text()))
    assert [x["image_id"] for x in found[0]] == [x["image_id"] for x in found[1]]
    scores = [[x["score"] for x in results] for results in found]
    np.testing.assert_allclose(
        *scores, rtol=0, atol=1e-4
    )  # products of other sizes round otherwise


def test_an_image_of_one_tile_is_as_without_tiles(image, tmp_path, capsys):
    def results(*options, out):
        assert predict(image, "--threshold", "0.2", *options, out=out) == 0
        return json.loads((out / "predictions.json").read_text())

    tiled = results("--tile", 96, out=tmp_path / "tiled")
    assert tiled == results("--native", out=tmp_path / "native")
    capsys.readouterr()
    assert results("--tile", 96, "--overlap", 12, out=tmp_path / "tiled") == tiled
    assert "1 of 1 images are done already" in capsys.readouterr().err


def test_tiles_are_refused_where_they_cannot_be(image, tmp_path, capsys):
    def refused(*options):
        assert predict(image, *options, out=tmp_path / "out") == 1
        return capsys.readouterr().err

    assert "panoptic segmentations aren't put together" in refused(
        "--tile", "64", "--task", "panoptic"
    )
    assert "tiles of 64 pixels can't overlap by 33" in refused("--tile", 64, "--overlap", 33)
    assert "--tile must be from 32 to 65536, not 0" in refused("--tile", 0)


@pytest.fixture
def golden_scores():
    """At the image's own size; scores at other sizes are in post.npz."""
    from m2f_jax import ImageProcessor, Mask2Former

    pixels = np.load(GOLDEN / "tiny_w7_odd" / "network.npz")["image_0"].transpose(1, 2, 0)
    batch = ImageProcessor()(pixels)
    predictions = Mask2Former.from_pretrained(MODEL)(batch.pixel_values)
    [instances] = ImageProcessor().post_process_instance_segmentation(predictions, batch.sizes)
    return instances.scores


def test_threshold_leaves_the_likelier_ones(image, tmp_path):
    assert predict(image, "--threshold", "0.2", out=tmp_path / "out") == 0
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert results
    assert min(r["score"] for r in results) >= 0.2


def test_panoptic_map_agrees_with_its_json(image, tmp_path):
    out = tmp_path / "out"
    model = GOLDEN / "tiny_batch2" / "hf"
    assert predict(image, "--task", "panoptic", out=out, model=model) == 0
    results = json.loads((out / "predictions.json").read_text())
    [annotation] = results["annotations"]
    with Image.open(out / "maps" / annotation["file_name"]) as png:
        ids = np.asarray(png).astype(int) @ [1, 256, 65536]
    assert set(np.unique(ids)) - {0} == {s["id"] for s in annotation["segments_info"]}
    for segment in annotation["segments_info"]:
        assert segment["area"] == (ids == segment["id"]).sum()
    assert [c["name"] for c in results["categories"]] == [f"class_{k}" for k in range(5)]


def test_semantic_map_holds_the_data_sets_ids(image, tmp_path):
    out = tmp_path / "out"
    assert predict(image, "--task", "semantic", out=out) == 0
    with Image.open(out / "maps" / "street.png") as png:
        ids = np.asarray(png)
    results = json.loads((out / "predictions.json").read_text())
    assert set(np.unique(ids)) == {r["category_id"] for r in results}
    for result in results:
        assert coco_mask.area(result["segmentation"]) == (ids == result["category_id"]).sum()


def test_bad_images_are_named_and_the_others_done(image, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "text.jpg").write_text("not an image")
    (folder / "cut.png").write_bytes(image.read_bytes()[:2000])
    Image.fromarray(np.zeros((40, 50), np.float32), mode="F").save(folder / "float.tiff")
    Image.open(image).convert("L").save(folder / "grey.png")
    Image.open(image).convert("RGBA").save(folder / "alpha.png")
    out = tmp_path / "out"
    assert predict(folder, tmp_path / "missing.jpg", out=out) == 1
    errors = capsys.readouterr().err
    for name in ("text.jpg", "cut.png", "float.tiff", "missing.jpg"):
        [line] = [line for line in errors.splitlines() if name in line]
        assert line.startswith("m2f: ")
    assert "3 of 5 images failed" in errors
    assert sorted(p.stem for p in (out / "overlays").iterdir()) == ["alpha", "grey"]


def test_a_rerun_goes_on_and_other_settings_are_refused(image, tmp_path, capsys):
    out = tmp_path / "out"
    second = tmp_path / "second.png"
    second.write_bytes(image.read_bytes())
    assert predict(image, out=out) == 0
    first_result = (out / "results" / "street.json").stat().st_mtime_ns
    assert predict(image, second, out=out) == 0
    assert "1 of 2 images are done already" in capsys.readouterr().err
    assert (out / "results" / "street.json").stat().st_mtime_ns == first_result
    assert {p.stem for p in (out / "results").iterdir()} == {"street", "second"}

    assert predict(image, "--threshold", "0.9", out=out) == 1
    error = capsys.readouterr().err
    assert "threshold 0.5 there, 0.9 now" in error
    assert "--overwrite" in error
    assert predict(image, "--threshold", "0.9", "--overwrite", out=out) == 0
    assert [p.stem for p in (out / "results").iterdir()] == ["street"]


def test_a_folder_of_other_files_is_left_alone(image, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    assert predict(image, out=out) == 1
    assert "thesis.txt" not in capsys.readouterr().out
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


def test_folders_keep_their_structure_and_globs_expand(image, tmp_path):
    folder = tmp_path / "set"
    for name in ("a/000000000139.png", "b/000000000285.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(image.read_bytes())
    assert predict(folder, out=tmp_path / "one") == 0
    assert (tmp_path / "one" / "overlays" / "b" / "000000000285.jpg").exists()
    assert predict(folder / "**" / "*.png", "--threshold", "0", out=tmp_path / "two") == 0
    results = json.loads((tmp_path / "two" / "predictions.json").read_text())
    assert {r["image_id"] for r in results} == {139, 285}


@pytest.mark.parametrize("package", ["pyarrow", "ray"])
def test_ray_is_told_with_its_extra(package, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in list(sys.modules):
        if name.startswith(("m2f_jax.cli.predicting.on_ray", "m2f_jax.ray", f"{package}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "a.png"), "--ray", "local", "--out", str(out)]) == 1
    assert re.search(r"needs (pyarrow|ray): pip install 'm2f-jax\[ray\]'", capsys.readouterr().err)
