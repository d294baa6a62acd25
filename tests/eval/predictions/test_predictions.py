"""Predictions in files: they score as the model that wrote them, and bad ones are refused."""

import json
import shutil

import numpy as np
import pytest
from m2f_jax.eval.metrics.cityscapes.ids import panoptic_ground_truth
from m2f_jax.eval.predictions.exports import finish_panoptic, finish_results
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.published.cityscapes import cityscapes_dataset
from m2f_jax.files import finite
from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segment,
    encode_rle,
)
from m2f_jax.labels import CITYSCAPES
from m2f_jax.streets import street_scene

SIZE = (128, 256)
NAMES = [f"town_{index:06d}_000000" for index in range(3)]
TASKS = ["instance", "panoptic", "semantic"]
PANOPTIC = "cityscapes_panoptic_val"
CLASS_INDEX = {label.id: k for k, label in enumerate(CITYSCAPES)}
THINGS = {label.id for label in CITYSCAPES if label.is_thing}


@pytest.fixture(scope="module")
def scenes():
    return [street_scene(0, index, SIZE) for index in range(len(NAMES))]


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def root(scenes, tmp_path_factory):
    """A Cityscapes tree."""
    root = tmp_path_factory.mktemp("city")
    for name, scene in zip(NAMES, scenes, strict=True):
        truth = root / "gtFine" / "val" / "town"
        write_png(root / "leftImg8bit" / "val" / "town" / f"{name}_leftImg8bit.png", scene.image)
        write_png(truth / f"{name}_gtFine_instanceIds.png", scene.instance_ids.astype(np.uint16))
        write_png(truth / f"{name}_gtFine_labelIds.png", scene.label_ids)
    return root


def rgb(ids):
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def coco(scenes, tmp_path_factory):
    """The same images in COCO's format: an annotation file for each task."""
    folder = tmp_path_factory.mktemp("coco")
    images, instances, panoptic = [], [], []
    for image_id, (name, scene) in enumerate(zip(NAMES, scenes, strict=True), 7):
        file_name = f"{name}_leftImg8bit.png"
        images.append({"id": image_id, "file_name": file_name, "height": 128, "width": 256})
        ids, segments = panoptic_ground_truth(scene.instance_ids)
        write_png(folder / "panoptic" / f"{name}.png", rgb(ids))
        panoptic.append(
            {"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments}
        )
        for segment in segments:
            if segment["category_id"] in THINGS:
                rle = {"segmentation": encode_rle(ids == segment["id"])}
                instances.append(segment | rle | {"image_id": image_id, "id": len(instances) + 1})
    categories = [{"id": x.id, "name": x.name, "isthing": int(x.is_thing)} for x in CITYSCAPES]
    for task, annotations in (("instance", instances), ("panoptic", panoptic)):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{task}.json").write_text(json.dumps(content))
    return folder


def evaluate(root, *arguments):
    return main(["eval", "cityscapes", str(root), *map(str, arguments)])


def official(folder):
    return json.loads((folder / "results.json").read_text())["official"]


def moved(array, row, column=2):
    return np.roll(array, (row, column), (0, 1))


def instances_of(scene, rng):
    """The objects, a little away, twice and with some classes mistaken."""
    ids = scene.instance_ids
    objects = [i for i in np.unique(ids[ids >= 24000]).tolist() if i // 1000 in CLASS_INDEX] * 2
    return InstanceSegmentation.from_masks(
        scores=np.sort(rng.random(len(objects), np.float32))[::-1].copy(),
        labels=np.array([CLASS_INDEX[i // 1000] for i in objects[:-1]] + [13], np.int32),
        masks=np.array([moved(ids == i, k % 3) for k, i in enumerate(objects)]),
        queries=np.arange(len(objects), dtype=np.int32),
    )


def segments_of(scene):
    """The segments, a little away, numbered anew, some left out and some of a wrong class."""
    ids, infos = panoptic_ground_truth(scene.instance_ids)
    segment_map, segments = np.zeros(SIZE, np.int32), []
    for i, info in enumerate(infos):
        mask = moved(ids, 1) == info["id"]
        label = CLASS_INDEX[info["category_id"]] if i % 5 else 2
        if i % 4 == 3 or info["iscrowd"] or not mask.any():
            continue
        segment_map[mask] = i + 1
        is_thing = CITYSCAPES[label].is_thing
        segments.append(Segment(id=i + 1, label=label, is_thing=is_thing, score=0.1 * i))
    return PanopticSegmentation(segment_map=segment_map, segments=tuple(segments))


def classes_of(scene):
    """The classes, a little away; where there is none, the first."""
    table = np.zeros(34, np.int32)
    table[list(CLASS_INDEX)] = list(CLASS_INDEX.values())
    return table[moved(scene.label_ids, 1)]


@pytest.fixture(scope="module")
def segmentations(scenes):
    """Something like a model's, by task."""
    rng = np.random.default_rng(0)
    return {
        "instance": [instances_of(scene, rng) for scene in scenes],
        "panoptic": list(map(segments_of, scenes)),
        "semantic": list(map(classes_of, scenes)),
    }


def measure(evaluation, segmentations):
    """The official numbers as strict JSON has them; meanwhile the segmentations are exported."""
    metric = evaluation.empty()
    for index, segmentation in enumerate(segmentations):
        metric.merge(evaluation.measure(index, evaluation.truth(index), segmentation))
    return finite(json.loads(json.dumps(metric.result().to_json())))


@pytest.fixture(scope="module")
def exports(root, segmentations, tmp_path_factory):
    """The files of each task, in folders of their names."""
    folder = tmp_path_factory.mktemp("exports")
    for task in TASKS:
        data = cityscapes_dataset(root, "val", task)
        maps = folder / task / PANOPTIC if task == "panoptic" else folder / task
        numbers = measure(evaluation_of(data, task, CITYSCAPES, maps), segmentations[task])
        (folder / f"{task}.json").write_text(json.dumps(numbers))
    finish_panoptic(
        folder / "panoptic" / f"{PANOPTIC}.json", folder / "panoptic" / PANOPTIC, NAMES, CITYSCAPES
    )
    return folder


@pytest.fixture
def exported(exports, tmp_path):
    """A copy to break."""

    def copy(task):
        return shutil.copytree(exports / task, tmp_path / task)

    return copy


def assert_same(numbers, others):
    """Equal to the last bit, where NaN is equal to itself."""
    assert json.dumps(numbers, sort_keys=True) == json.dumps(others, sort_keys=True)


@pytest.mark.parametrize("task", TASKS)
def test_exports_score_as_what_was_exported(root, exports, tmp_path, task):
    assert evaluate(root, "--task", task, "--predictions", exports / task, "--out", tmp_path) == 0
    direct = json.loads((exports / f"{task}.json").read_text())
    assert_same(official(tmp_path), direct)
    score = {
        "instance": lambda: direct["averages"]["allAp"],
        "panoptic": lambda: direct["All"]["pq"],
        "semantic": lambda: direct["averageScoreClasses"],
    }[task]()
    assert 0.1 < score < 0.9  # else, being equal says little


def test_a_model_is_exported_whole_even_after_an_interruption(
    root, panoptic_model, tmp_path, capsys
):
    out, export = tmp_path / "out", tmp_path / "export"
    arguments = ["--task", "panoptic", "--model", panoptic_model, "--out", out]
    arguments += ["--export", export]
    assert evaluate(root, *arguments) == 0
    assert evaluate(root, "--task", "panoptic", "--predictions", export, "--out", tmp_path) == 0
    assert_same(official(tmp_path), official(out))
    assert any(row["fp"] for row in official(out)["per_class"].values())
    [file] = export.glob("*.json")
    assert file.name == "cityscapes_panoptic_val.json"
    whole = file.read_text()
    # As if killed before the last image: neither its table nor the JSON file is there.
    file.unlink()
    next(out.glob(f"tables/*/{NAMES[1]}.npz")).unlink()
    assert evaluate(root, *arguments) == 0
    assert file.read_text() == whole
    assert [entry["image_id"] for entry in json.loads(whole)["annotations"]] == NAMES
    # What was exported is gone, but for the tables.
    shutil.rmtree(export)
    export.mkdir()
    assert evaluate(root, *arguments) == 1
    assert "choose another folder for --export" in capsys.readouterr().err


def test_coco_model_is_exported(coco, root, panoptic_model, tmp_path):
    images = root / "leftImg8bit" / "val" / "town"
    out, export, again = (tmp_path / name for name in ("out", "export", "again"))
    arguments = ["eval", "coco", str(coco / "panoptic.json"), str(images), "--task", "panoptic"]
    options = ["--model", panoptic_model, "--out", str(out), "--export", str(export)]
    assert main([*arguments, *options]) == 0
    assert main([*arguments, "--predictions", str(export), "--out", str(again)]) == 0
    assert_same(official(again), official(out))


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_coco_exports_score_as_what_was_exported(coco, root, segmentations, tmp_path, task):
    path, images = coco / f"{task}.json", root / "leftImg8bit" / "val" / "town"
    data, maps = coco_dataset(path, images, task), tmp_path / "predictions"
    file, names = tmp_path / "predictions.json", [item.name for item in data.images]
    direct = measure(evaluation_of(data, task, CITYSCAPES, maps), segmentations[task])
    if task == "panoptic":
        finish_panoptic(file, maps, names, CITYSCAPES)
    else:
        finish_results(file, maps, names)
        assert direct["AP"] > 0.1
    arguments = ["eval", "coco", str(path), str(images), "--task", task, "--predictions"]
    for predictions in (tmp_path, file):
        assert main([*arguments, str(predictions), "--out", str(tmp_path / "out")]) == 0
        assert_same(official(tmp_path / "out"), direct)


def test_coco_ground_truth_as_prediction_is_perfect(coco, root, tmp_path):
    content = json.loads((coco / "instance.json").read_text())
    file = tmp_path / "results.json"
    file.write_text(json.dumps([entry | {"score": 0.5} for entry in content["annotations"]]))
    images = root / "leftImg8bit" / "val" / "town"
    arguments = ["eval", "coco", str(coco / "instance.json"), str(images)]
    assert main([*arguments, "--predictions", str(file), "--out", str(tmp_path)]) == 0
    assert official(tmp_path)["AP50"] > 0.99


def test_what_predict_wrote_can_be_scored(root, exports, tmp_path):
    """The names of files stand for images, and PNG files are in "maps"."""
    source = exports / "panoptic" / PANOPTIC
    content = json.loads((exports / "panoptic" / f"{PANOPTIC}.json").read_text())
    for entry in content["annotations"]:
        name = f"town/{entry['image_id']}_leftImg8bit"
        (tmp_path / "maps" / "town").mkdir(parents=True, exist_ok=True)
        shutil.copy(source / entry["file_name"], tmp_path / "maps" / f"{name}.png")
        entry |= {"image_id": name, "file_name": f"{name}.png"}
    (tmp_path / "predictions.json").write_text(json.dumps(content))
    (tmp_path / "categories.json").write_text("[]")
    arguments = ["--task", "panoptic", "--predictions", tmp_path, "--out", tmp_path / "out"]
    assert evaluate(root, *arguments) == 0
    assert_same(official(tmp_path / "out"), json.loads((exports / "panoptic.json").read_text()))


def test_only_some_images(root, exports, tmp_path):
    for task in TASKS:
        arguments = ["--task", task, "--predictions", exports / task, "--out", tmp_path]
        assert evaluate(root, *arguments, "--limit", 2) == 0


def remap(path, change):
    with Image.open(path) as image:
        array = np.array(image)
    Image.fromarray(change(array)).save(path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def first_line(path, change):
    lines = path.read_text().splitlines()
    lines[0] = change(lines[0])
    path.write_text("".join(f"{line}\n" for line in lines))


def relabel(path, label):
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    path.write_text("".join(f"{mask} {label} {score}\n" for mask, _, score in lines))


def halve(array):
    return array[::2, ::2].copy()


def to_train_ids(ids):
    table = np.full(256, 255, np.uint8)
    table[[label.id for label in CITYSCAPES]] = np.arange(19)
    return table[ids]


TEXT, MASK = f"{NAMES[1]}_pred.txt", f"{NAMES[1]}_pred_0_"
MAP = f"{NAMES[1]}_pred.png"


def mask_of(folder):
    return next(folder.glob(f"{MASK}*.png"))


BAD_INSTANCES = {
    "missing text": (lambda f: (f / TEXT).unlink(), f"has no {NAMES[1]}*.txt"),
    "doubled text": (lambda f: shutil.copy(f / TEXT, f / f"{NAMES[1]}.txt"), "has two files"),
    "stranger": (lambda f: (f / "village_000001_000001.txt").touch(), "village_000001_000001.txt"),
    "missing mask": (lambda f: mask_of(f).unlink(), f"{MASK}"),
    "cut mask": (lambda f: cut(mask_of(f)), f"{MASK}"),
    "small mask": (lambda f: remap(mask_of(f), halve), "has 64 x 128 pixels"),
    "nan": (lambda f: first_line(f / TEXT, lambda x: x.rsplit(" ", 1)[0] + " nan"), "line 1: the"),
    "words": (lambda f: first_line(f / TEXT, lambda x: x + " more"), f"{TEXT}, line 1: expected"),
    "unknown label": (lambda f: relabel(f / TEXT, 34), f"{TEXT}: labels [34] aren't"),
    "train ids": (lambda f: relabel(f / TEXT, 13), "seem to be train ids"),
    "outside": (lambda f: first_line(f / TEXT, lambda x: "../" + x), "leads out of"),
}


def json_of(folder):
    return folder / f"{PANOPTIC}.json"


def map_of(folder):
    return folder / PANOPTIC / f"{NAMES[1]}_panoptic.png"


def change_entries(folder, change):
    content = json.loads(json_of(folder).read_text())
    change(content["annotations"])
    json_of(folder).write_text(json.dumps(content))


def set_categories(table):
    def change(entries):
        for entry in entries:
            for segment in entry["segments_info"]:
                segment["category_id"] = table.get(segment["category_id"], segment["category_id"])

    return lambda folder: change_entries(folder, change)


BAD_PANOPTIC = {
    "no json": (lambda f: json_of(f).unlink(), "holds no .json file"),
    "cut json": (lambda f: cut(json_of(f)), "is not valid JSON"),
    "other json": (lambda f: json_of(f).write_text("[1]"), "isn't a COCO panoptic file"),
    "missing entry": (lambda f: change_entries(f, lambda x: x.pop()), f"no entry for {NAMES[2]}"),
    "doubled entry": (lambda f: change_entries(f, lambda x: x.append(x[0])), "has two entries for"),
    "stranger": (
        lambda f: change_entries(f, lambda x: x.append(x[0] | {"image_id": "village"})),
        "entry 3 is about image 'village'",
    ),
    "no segments": (
        lambda f: change_entries(f, lambda x: x[1].pop("segments_info")),
        "entry 1 has no segments_info",
    ),
    "missing map": (lambda f: map_of(f).unlink(), "_panoptic.png is missing"),
    "cut map": (lambda f: cut(map_of(f)), map_of),
    "small map": (lambda f: remap(map_of(f), halve), "has 64 x 128 pixels"),
    "grey map": (lambda f: remap(map_of(f), lambda x: x[..., 0]), "isn't RGB"),
    "unlisted": (
        lambda f: change_entries(f, lambda x: x[1]["segments_info"].pop()),
        "aren't in its list",
    ),
    "unknown class": (set_categories(dict.fromkeys(CLASS_INDEX, 29)), "category ids [29]"),
    "train ids": (set_categories(CLASS_INDEX), "seem to be train ids"),
}

BAD_SEMANTIC = {
    "missing": (lambda f: (f / MAP).unlink(), f"has no {NAMES[1]}*.png"),
    "doubled": (lambda f: shutil.copy(f / MAP, f / f"{NAMES[1]}_again.png"), "has two files"),
    "stranger": (
        lambda f: shutil.copy(f / MAP, f / "village_000001_000001_pred.png"),
        "village_000001_000001_pred.png isn't about an image",
    ),
    "cut": (lambda f: cut(f / MAP), MAP),
    "small": (lambda f: remap(f / MAP, halve), f"{MAP} has 64 x 128 pixels"),
    "colors": (lambda f: remap(f / MAP, lambda x: np.stack([x] * 3, -1)), "isn't a map of ids"),
    "unknown label in pixels": (lambda f: remap(f / MAP, lambda x: x * 0 + 40), f"{MAP}: image"),
}


BAD = {"instance": BAD_INSTANCES, "panoptic": BAD_PANOPTIC, "semantic": BAD_SEMANTIC}


SEEN_IN_PIXELS = {"grey map", "unlisted", "colors", "unknown label in pixels"}


def nothing_is_scored(*_):
    raise AssertionError("scored before all files were checked")


@pytest.mark.parametrize(("task", "case"), [(task, case) for task in BAD for case in BAD[task]])
def test_bad_files_are_named(root, exported, capsys, monkeypatch, task, case):
    spoil, message = BAD[task][case]
    if case not in SEEN_IN_PIXELS:
        monkeypatch.setattr("m2f_jax.cli.evaluating.files.measure_files", nothing_is_scored)
    folder = exported(task)
    spoil(folder)
    assert evaluate(root, "--task", task, "--predictions", folder) == 1
    error = capsys.readouterr().err
    assert (message if isinstance(message, str) else message(folder).name) in error
    assert "Traceback" not in error


def test_semantic_train_ids_are_recognised(root, scenes, tmp_path, capsys):
    for name, scene in zip(NAMES, scenes, strict=True):
        write_png(tmp_path / f"{name}.png", to_train_ids(scene.label_ids))
    assert evaluate(root, "--task", "semantic", "--predictions", tmp_path) == 1
    error = capsys.readouterr().err
    assert "train ids" in error
    assert f"{NAMES[0]}.png" in error


def test_model_and_predictions_exclude_each_other(root, exports, capsys):
    assert evaluate(root, "--predictions", exports, "--model", "x") == 1
    assert "either --model or --predictions" in capsys.readouterr().err
    assert evaluate(root, "--predictions", exports, "--export", "x") == 1
    assert "--export is for --model" in capsys.readouterr().err
