"""`m2f eval` from end to end, on generated streets."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from m2f_jax.eval.running.measuring import measure_all
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax import ImageProcessor, Mask2Former, load, presets
from m2f_jax.cli import main
from m2f_jax.datasets.published.cityscapes import cityscapes_dataset
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import CITYSCAPES, things
from m2f_jax.streets import street_scene
from tests.conftest import GOLDEN, ROOT, load_golden, with_devices

SIZE = (128, 256)
COUNT = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random model with Cityscapes' classes, at native size."""
    folder = tmp_path_factory.mktemp("model")
    tiny = load_golden("tiny_w7_odd").model.config
    config = dataclasses.replace(
        tiny,
        labels=things(CITYSCAPES),
        backbone=dataclasses.replace(tiny.backbone, depths=(1, 1, 1, 1)),
        pixel_decoder=dataclasses.replace(tiny.pixel_decoder, num_layers=1),
        decoder=dataclasses.replace(tiny.decoder, num_layers=1),
    )
    Mask2Former(config, rngs=nnx.Rngs(0)).save_pretrained(folder)
    ImageProcessor(thing_classes=tuple(range(8))).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def scenes():
    return [street_scene(0, index, SIZE) for index in range(COUNT)]


def write_tree(scenes, root):
    """A Cityscapes tree."""
    for index, scene in enumerate(scenes):
        name = f"town_{index:06d}_000000"
        for folder, ending, array in (
            ("leftImg8bit", "_leftImg8bit", scene.image),
            ("gtFine", "_gtFine_instanceIds", scene.instance_ids.astype(np.uint16)),
            ("gtFine", "_gtFine_labelIds", scene.label_ids),
        ):
            path = root / folder / "val" / "town" / f"{name}{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return root


@pytest.fixture
def root(scenes, tmp_path):
    return write_tree(scenes, tmp_path / "city")


@pytest.fixture(scope="module")
def whole(scenes, model, tmp_path_factory):
    """The folder of an evaluation in one go, with what it exported in `export`."""
    folder = tmp_path_factory.mktemp("whole")
    root, out = write_tree(scenes, folder / "city"), folder / "out"
    assert evaluate(root, "--model", model, "--out", out, "--export", out / "export") == 0
    return out


def evaluate(root, *arguments):
    return main(["eval", "cityscapes", str(root), *map(str, arguments)])


def official(folder):
    return json.loads((folder / "results.json").read_text())["official"]


def test_exported_files_score_the_same(root, whole, tmp_path, capsys):
    again = tmp_path / "again"
    assert len(list((whole / "export").glob("*.txt"))) == COUNT
    assert evaluate(root, "--predictions", whole / "export", "--out", again) == 0
    assert "average" in capsys.readouterr().out
    assert official(again) == official(whole)
    assert (whole / "report.html").stat().st_size > 10_000


def test_a_published_model_has_its_score_beside_the_measured_one(
    root, model, tmp_path, capsys, monkeypatch
):
    name = "swin-large-cityscapes-instance"
    published = dataclasses.replace(
        presets.PRESETS[name],
        config=load(model).config,
        shortest_edge=SIZE[0],
        longest_edge=SIZE[1],
    )
    data = dataclasses.replace(
        presets.DATA_SETS["cityscapes"], validation_images=COUNT, cities={"town": COUNT}
    )
    monkeypatch.setitem(presets.PRESETS, name, published)
    monkeypatch.setitem(presets.DATA_SETS, "cityscapes", data)
    folder, out = tmp_path / "model", tmp_path / "out"
    load(model).model.save_pretrained(folder)
    assert evaluate(root, "--model", folder, "--out", out) == 0
    results = json.loads((out / "results.json").read_text())
    ap = results["scores"]["AP"]
    assert f"\nAP {ap:.1f} (published 43.7, {ap - 43.7:+.1f})\n" in capsys.readouterr().out
    assert results["published"]["model"] == name
    assert results["published"]["scores"] == {"AP": 43.7, "AP50": 71.4}
    assert results["published"]["differences"]["AP"] == ap - 43.7
    assert results["images"] == COUNT
    assert "published 43.7" in (out / "report.html").read_text()
    push = ["push", str(folder), "somebody/model", "--results", str(out / "results.json")]
    assert main([*push, "--dry-run", str(tmp_path / "card"), "--format", "m2f_jax"]) == 0
    assert f"| `Cityscapes, val` | {COUNT} | instance | AP | {ap:.1f} | float32 |" in (
        (tmp_path / "card" / "README.md").read_text()
    )
    assert evaluate(root, "--model", folder, "--limit", 2) == 0
    assert f"{name} is of the 3 validation images of Cityscapes, and this is of 2" in (
        capsys.readouterr().out
    )


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


# Comes later than its partners; test_processes has what waits for it, however long.
SLOW = """
import time
from m2f_jax.eval import CityscapesInstanceAP
save = CityscapesInstanceAP.save
CityscapesInstanceAP.save = lambda *arguments: (save(*arguments), time.sleep(2))
"""

# Never comes back from saving a table.
STOP_AFTER_ONE = """
import time
from m2f_jax.eval import CityscapesInstanceAP
save = CityscapesInstanceAP.save
CityscapesInstanceAP.save = lambda *arguments: (save(*arguments), time.sleep(600))
"""


@pytest.fixture
def start():
    """The same as `evaluate`, in processes of their own that don't outlive the test."""
    with contextlib.ExitStack() as stack:

        def start_one(root, *arguments, **options):
            process = stack.enter_context(open_process(root, *arguments, **options))
            stack.callback(process.kill)
            return process

        yield start_one


def open_process(root, *arguments, prelude="", **environment):
    code = f"{prelude}\nimport sys; from m2f_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, "eval", "cityscapes", str(root), *map(str, arguments)],
        env=os.environ | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def tables(folder):
    """All that was counted, by image and name of the array."""
    paths = sorted(folder.glob("tables/*/*.npz"))
    return {(path.stem, name): array for path in paths for name, array in np.load(path).items()}


def assert_same_tables(folder, other):
    ours, theirs = tables(folder), tables(other)
    assert len({image for image, _ in ours}) == COUNT
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=str(key))
    assert any(name == "table" and array.sum() > 0 for (_, name), array in ours.items())


def test_batches_give_the_same(root, model, whole, tmp_path, capsys):
    two = tmp_path / "two"
    assert evaluate(root, "--model", model, "--out", two, "--batch-size", 2) == 0
    assert "average" in capsys.readouterr().out
    assert official(two) == official(whole)


def test_several_processes_of_several_devices_give_the_same(root, model, whole, tmp_path, start):
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
    # Each has a folder of its own, as on machines that share no disk.
    folders = [tmp_path / "first", tmp_path / "second"]
    processes = [
        start(
            *(root, "--model", model, "--out", folder),
            *("--coordinator-address", address, "--num-processes", 2, "--process-id", i),
            prelude=SLOW if i == 1 else "",
            XLA_FLAGS=with_devices(2),
        )
        for i, folder in enumerate(folders)
    ]
    outputs = [assert_ended(process) for process in processes]
    assert "average" in outputs[0][0]
    assert "average" not in outputs[1][0]
    assert official(folders[0]) == official(whole)
    assert not (folders[1] / "results.json").exists()
    shares = [{image for image, _ in tables(folder)} for folder in folders]
    assert [len(share) for share in shares] == [2, 1]
    assert not shares[0] & shares[1]
    shutil.copytree(folders[1] / "tables", folders[0] / "tables", dirs_exist_ok=True)
    assert_same_tables(folders[0], whole)


def test_counting_on_the_device_gives_the_same(root, model, whole, tmp_path):
    segmenter = Segmenter.from_pretrained(model, "float32")
    data = cityscapes_dataset(root, "val", "instance")
    evaluation = evaluation_of(data, "instance", segmenter.config.labels)
    folder = tmp_path / "tables" / "run"
    folder.mkdir(parents=True)
    done = measure_all(segmenter, evaluation, range(COUNT), folder, on_device=True)
    assert [error for _, error in done] == [None] * COUNT
    assert_same_tables(tmp_path, whole)


def test_killed_in_the_middle_it_goes_on(root, model, whole, tmp_path, start, capsys):
    killed = tmp_path / "killed"
    process = start(root, "--model", model, "--out", killed, prelude=STOP_AFTER_ONE)
    while not tables(killed):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (killed / "results.json").exists()
    assert evaluate(root, "--model", model, "--out", killed) == 0
    assert f"1 of {COUNT} images are done already" in capsys.readouterr().err
    assert official(killed) == official(whole)
    assert_same_tables(killed, whole)


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
    assert evaluate(root, "--model", model, "--predictions", "files") == 1
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


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_folder(scenes, model, tmp_path, capsys, task):
    """The same data as maps of ids and in COCO's format score the same."""
    labels = json.loads((Path(model) / "config.json").read_text())["labels"]
    known = [label["id"] for label in labels]
    images, annotations = [], []
    for kind in ("ids", "coco"):
        (tmp_path / kind / "val" / "images").mkdir(parents=True)
    (tmp_path / "ids" / "val" / "ids").mkdir()
    (tmp_path / "ids" / "labels.json").write_text(json.dumps(labels))
    for index, scene in enumerate(scenes):
        name = f"town_{index}"
        for kind in ("ids", "coco"):
            Image.fromarray(scene.image).save(tmp_path / kind / "val" / "images" / f"{name}.png")
        ids = np.where(np.isin(scene.instance_ids // 1000, known), scene.instance_ids, 0)
        Image.fromarray(ids.astype(np.uint16)).save(
            tmp_path / "ids" / "val" / "ids" / f"{name}.png"
        )
        height, width = SIZE
        images.append({"id": name, "file_name": f"{name}.png", "height": height, "width": width})
        annotations += [
            annotation(1000 * index + k, name, scene, object_id)
            for k, object_id in enumerate(np.unique(ids[ids > 0]).tolist())
        ]
    content = {"images": images, "annotations": annotations, "categories": labels}
    (tmp_path / "coco" / "val" / "annotations.json").write_text(json.dumps(content))
    for kind in ("ids", "coco"):
        arguments = ["--model", model, "--task", task, "--out", str(tmp_path / "out" / kind)]
        assert main(["eval", "folder", str(tmp_path / kind), *arguments]) == 0
        assert "results are in" in capsys.readouterr().err
    assert official(tmp_path / "out" / "ids") == official(tmp_path / "out" / "coco")
    assert main(["eval", "folder", str(tmp_path / "coco"), *arguments, "--split", "test"]) == 1
    assert f"{tmp_path / 'coco' / 'test'} is missing" in capsys.readouterr().err


def annotation(number, image_id, scene, object_id):
    from m2f_jax.masks.rle import encode_rle

    mask = scene.instance_ids == object_id
    return {
        "id": number,
        "image_id": image_id,
        "category_id": object_id // 1000,
        "segmentation": encode_rle(mask),
        "area": int(mask.sum()),
        "iscrowd": 0,
    }
