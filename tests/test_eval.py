"""`m2f eval` from end to end, on generated streets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2f_jax import ImageProcessor, Mask2Former
from m2f_jax.cli import main
from m2f_jax.datasets import street_scene

GOLDEN = Path(__file__).parent / "golden"
SIZE = (128, 256)
COUNT = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random model with Cityscapes' classes, at native size."""
    folder = tmp_path_factory.mktemp("model")
    Mask2Former.from_pretrained(GOLDEN / "tiny_w7_odd" / "model_final.pkl").save_pretrained(folder)
    ImageProcessor(thing_classes=tuple(range(8))).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def scenes():
    return [street_scene(0, index, SIZE) for index in range(COUNT)]


@pytest.fixture
def root(scenes, tmp_path):
    """A Cityscapes tree."""
    for index, scene in enumerate(scenes):
        name = f"town_{index:06d}_000000"
        for folder, ending, array in (
            ("leftImg8bit", "_leftImg8bit", scene.image),
            ("gtFine", "_gtFine_instanceIds", scene.instance_ids.astype(np.uint16)),
            ("gtFine", "_gtFine_labelIds", scene.label_ids),
        ):
            path = tmp_path / "city" / folder / "val" / "town" / f"{name}{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "city"


def evaluate(root, *arguments):
    return main(["eval", "cityscapes", str(root), *map(str, arguments)])


def official(folder):
    return json.loads((folder / "results.json").read_text())["official"]


def test_exported_files_score_the_same(root, model, tmp_path, capsys):
    out, export, again = (tmp_path / name for name in ("out", "export", "again"))
    assert evaluate(root, "--model", model, "--out", out, "--export", export) == 0
    assert "average" in capsys.readouterr().out
    assert len(list(export.glob("*.txt"))) == COUNT
    assert evaluate(root, "--predictions", export, "--out", again) == 0
    assert official(again) == official(out)
    assert (out / "report.html").stat().st_size > 10_000


def test_a_second_run_reuses_tables_and_a_changed_setting_does_not(root, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert evaluate(root, "--model", model, "--out", out, "--limit", 2) == 0
    first = official(out)
    capsys.readouterr()
    # As if killed before the last image: its table is missing.
    [table] = out.glob("tables/*/town_000001_000000.npz")
    table.unlink()
    assert evaluate(root, "--model", model, "--out", out, "--limit", 2) == 0
    assert "1 of 2 images are done already" in capsys.readouterr().err
    assert official(out) == first
    assert evaluate(root, "--model", model, "--out", out) == 0
    assert "done already" not in capsys.readouterr().err


def test_several_devices_give_the_same(root, model, tmp_path):
    one, three = tmp_path / "one", tmp_path / "three"
    assert evaluate(root, "--model", model, "--out", one) == 0
    code = "import sys; from m2f_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["eval", "cityscapes", str(root), "--model", model, "--out", str(three)]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        env=environment,
        cwd=Path(__file__).parent.parent,
    )
    assert official(three) == official(one)


@pytest.mark.parametrize("kind", ["leftImg8bit", "gtFine"])
def test_a_damaged_file_is_named_and_gives_no_result(root, model, tmp_path, capsys, kind):
    path = sorted((root / kind).rglob("*_leftImg8bit.png" if kind[0] == "l" else "*_inst*.png"))[1]
    path.write_bytes(path.read_bytes()[:100])
    assert evaluate(root, "--model", model, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert path.name in error
    assert "1 of 3 images failed" in error
    assert not (tmp_path / "out" / "results.json").exists()


def test_wrong_trees_and_models_are_refused_before_work(root, model, tmp_path, capsys):
    assert evaluate(tmp_path / "nothing", "--model", model) == 1
    assert "leftImg8bit" in capsys.readouterr().err
    next(root.rglob("*_instanceIds.png")).unlink()
    assert evaluate(root, "--model", model) == 1
    assert "1 ground truth files are missing" in capsys.readouterr().err
    assert evaluate(root) == 1
    assert "--model or --predictions" in capsys.readouterr().err


def test_a_model_of_other_classes_is_refused(root, capsys):
    assert evaluate(root, "--model", GOLDEN / "tiny_w4_aligned" / "hf") == 1
    assert "class_0, class_1, class_2" in capsys.readouterr().err


def test_stuff_needs_a_model_that_knows_it(root, model, capsys):
    assert evaluate(root, "--model", model, "--task", "panoptic") == 1
    assert "things only" in capsys.readouterr().err


def test_coco_format(root, scenes, model, tmp_path):
    """The same images as a data set of one's own: the ground truth as predictions would be 1."""
    names = json.loads((Path(model) / "config.json").read_text())["labels"]
    images, annotations = [], []
    for index, scene in enumerate(scenes):
        file_name = f"town_{index:06d}_000000_leftImg8bit.png"
        images.append({"id": index, "file_name": file_name, "height": SIZE[0], "width": SIZE[1]})
        for object_id in np.unique(scene.instance_ids[scene.instance_ids >= 24000]).tolist():
            if object_id // 1000 in {label["id"] for label in names}:
                annotations.append(annotation(len(annotations) + 1, index, scene, object_id))
    path = tmp_path / "instances.json"
    categories = [{"id": label["id"], "name": label["name"]} for label in names]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    folder = root / "leftImg8bit" / "val" / "town"
    arguments = ["eval", "coco", str(path), str(folder), "--model", model]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    scores = json.loads((tmp_path / "out" / "results.json").read_text())["scores"]
    assert set(scores) == {"AP", "AP50", "AP75"}
    assert 0 <= scores["AP"] <= scores["AP50"] < 50


def annotation(number, image_id, scene, object_id):
    from m2f_jax.results import encode_rle

    mask = scene.instance_ids == object_id
    return {
        "id": number,
        "image_id": image_id,
        "category_id": object_id // 1000,
        "segmentation": encode_rle(mask),
        "area": int(mask.sum()),
        "iscrowd": 0,
    }
