"""Cityscapes' metrics beside the official scripts."""

import functools
import itertools
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring.images import draw_images
from measuring.street_scenes import SIZE, Scene, draw_scene, write_predictions
from PIL import Image

from evaluation_rows.case import M2F, PYTHON, Case, Data, Tool
from m2f_jax.files import read_json, write_json
from m2f_jax.labels import CITYSCAPES

OBJECTS, PREDICTIONS = 25, 100  # of each image
OFFICIAL = "cityscapesScripts"

# Arguments: root, predictions, task, number of images, the file to write.
OURS = """
import json, sys
from pathlib import Path
from m2f_jax.datasets.opening import open_dataset
from m2f_jax.eval.predictions.cityscapes import find_predictions
from m2f_jax.eval.predictions.files import measure_files
from m2f_jax.eval.tasks import evaluation_of
from m2f_jax.files import write_json

root, predictions, task, count, out = sys.argv[1:]
data = open_dataset(Path(root), "val", task, layout="cityscapes")
items, evaluation = data.images[: int(count)], evaluation_of(data, task)
files = find_predictions(Path(predictions), task, items, {x.name for x in data.images})
metric = evaluation.empty()
for part in measure_files(evaluation, items, files):
    metric.merge(part)
write_json(out, {"official": metric.result().to_json()})
"""

# Arguments: number of images, the file to write; then as each script has it.
OFFICIAL_INSTANCE = """
import glob, sys
import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as official
count, out, root, predictions = sys.argv[1:]
truths = sorted(glob.glob(root + "/gtFine/val/*/*_instanceIds.png"))[: int(count)]
found = sorted(glob.glob(predictions + "/*.txt"))[: int(count)]
official.args.quiet = True
official.args.predictionPath, official.args.exportFile = predictions, out
official.args.gtInstancesFile = out + ".cache"
official.evaluateImgLists(found, truths, official.args)
"""
OFFICIAL_SEMANTIC = """
import glob, sys
import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
count, out, root, predictions = sys.argv[1:]
truths = sorted(glob.glob(root + "/gtFine/val/*/*_labelIds.png"))[: int(count)]
found = sorted(glob.glob(predictions + "/*.png"))[: int(count)]
official.args.quiet, official.args.exportFile = True, out
official.evaluateImgLists(found, truths, official.args)
"""
OFFICIAL_PANOPTIC = """
import json, sys
import cityscapesscripts.evaluation.evalPanopticSemanticLabeling as official
count, out, truth, predictions = sys.argv[1:]
content = json.load(open(truth + ".json"))
content["annotations"] = content["annotations"][: int(count)]
json.dump(content, open(out + ".truth", "w"))
official.evaluatePanoptic(out + ".truth", truth, predictions + ".json", predictions, out)
"""
CONVERT = """
import sys
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
convert2panoptic(sys.argv[1] + "/gtFine", sys.argv[2], False, ["val"])
"""


def instance(data: Data) -> Case:
    """Returns the case of instance AP, from a PNG for each mask."""
    root, scenes = write_truth(data)
    predictions = data.folder / "predictions"
    predictions.mkdir()
    for name, scene in zip(names(data.images), scenes, strict=True):
        write_predictions(scene, predictions, name)
    return case(data, "Cityscapes AP", "instance", root, predictions, OFFICIAL_INSTANCE)


def panoptic(data: Data) -> Case:
    """Returns the case of PQ; the official script reads ground truth that its converter wrote."""
    root, scenes = write_truth(data)
    predictions = data.folder / "predictions"
    predictions.mkdir()
    annotations = []
    for name, scene in zip(names(data.images), scenes, strict=True):
        segments, ids = segments_of(moved(scene.instance_ids))
        channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1)
        Image.fromarray(channels.astype(np.uint8)).save(predictions / f"{name}.png")
        annotations.append(
            {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
        )
    write_json(data.folder / "predictions.json", {"annotations": annotations})
    if data.official_python:
        (data.folder / "truth").mkdir()
        command = [data.official_python, "-c", CONVERT, str(root), str(data.folder / "truth")]
        subprocess.run(command, check=True, stdout=2)
    truth = data.folder / "truth" / "cityscapes_panoptic_val"
    return case(data, "PQ", "panoptic", truth, predictions, OFFICIAL_PANOPTIC, root)


def semantic(data: Data) -> Case:
    """Returns the case of mIoU and iIoU, from a PNG of label ids for each image."""
    root, scenes = write_truth(data)
    predictions = data.folder / "predictions"
    predictions.mkdir()
    for name, scene in zip(names(data.images), scenes, strict=True):
        Image.fromarray(label_ids(moved(scene.instance_ids))).save(predictions / f"{name}.png")
    return case(data, "mIoU and iIoU", "semantic", root, predictions, OFFICIAL_SEMANTIC)


def case(
    data: Data,
    title: str,
    task: str,
    truth: Path,
    predictions: Path,
    script: str,
    root: Path | None = None,
) -> Case:
    """Returns a case; the official script reads `truth`, and we read `root`."""
    root = root or truth
    path = predictions if task != "panoptic" else predictions.with_suffix(".json")

    def library(count: int, out: Path) -> Sequence[str]:
        return [*PYTHON, OURS, str(root), str(path), task, str(count), str(out / "results.json")]

    def command_line(count: int, out: Path) -> Sequence[str]:
        options = ["--task", task, "--limit", str(count), "--predictions", str(path)]
        return [*M2F, "eval", "cityscapes", str(root), *options, "--out", str(out)]

    def official(count: int, out: Path) -> Sequence[str]:
        arguments = [str(count), str(out / "results.json"), str(truth), str(predictions)]
        return [str(data.official_python), "-c", script, *arguments]

    read = functools.partial(numbers_of, task)
    ours = {"": Tool(library, read), ", m2f eval with its report": Tool(command_line, read)}
    theirs = {OFFICIAL: Tool(official, functools.partial(official_numbers, task))}
    return Case(title, ours, theirs if data.official_python else {})


def numbers_of(task: str, out: Path) -> Any:
    """Returns our numbers as the official script names them."""
    found = read_json(out / "results.json")["official"]
    return chosen(task, found)


def official_numbers(task: str, out: Path) -> Any:
    """Returns the official numbers; it writes NaN as such."""
    found = json.loads((out / "results.json").read_text(), parse_constant=lambda _: None)
    return chosen(task, found)


def chosen(task: str, found: dict[str, Any]) -> Any:
    """Returns the numbers that both sides have, with None for NaN."""
    if task == "instance":
        return found["resultApMatrix"][0]
    if task == "panoptic":
        keys = ("pq", "sq", "rq", "n")
        return {name: [found[name][key] for key in keys] for name in ("All", "Things", "Stuff")}
    return {name: value for name, value in found.items() if name.startswith("averageScore")} | {
        "confMatrix": found["confMatrix"]
    }


def write_truth(data: Data) -> tuple[Path, list[Scene]]:
    """Draws scenes and writes them as a Cityscapes tree; returns its folder and the scenes."""
    root, rng = data.folder / "cityscapes", np.random.default_rng(0)
    folders = [root / kind / "val" / "city" for kind in ("leftImg8bit", "gtFine")]
    for folder in folders:
        folder.mkdir(parents=True)
    scenes = [draw_scene(rng, OBJECTS, PREDICTIONS) for _ in range(data.images)]
    (photo,) = draw_images(1, SIZE)
    for name, scene in zip(names(data.images), scenes, strict=True):
        Image.fromarray(photo).save(folders[0] / f"{name}_leftImg8bit.png")
        ids = scene.instance_ids.astype(np.uint16)
        Image.fromarray(ids).save(folders[1] / f"{name}_gtFine_instanceIds.png")
        Image.fromarray(label_ids(ids)).save(folders[1] / f"{name}_gtFine_labelIds.png")
    return root, scenes


def names(count: int) -> list[str]:
    """Returns the images' names in their order."""
    return [f"city_{i:06d}_000000" for i in range(count)]


def label_ids(instance_ids: np.ndarray) -> np.ndarray:
    """Returns the map of label ids."""
    return np.where(instance_ids < 1000, instance_ids, instance_ids // 1000).astype(np.uint8)


def moved(instance_ids: np.ndarray) -> np.ndarray:
    """Returns a prediction: the truth, a little away."""
    return np.roll(instance_ids, (3, -2), (0, 1))


def segments_of(instance_ids: np.ndarray) -> tuple[list[dict[str, int]], np.ndarray]:
    """Returns the segments of evaluated classes, and the map of their ids."""
    evaluated = {label.id for label in CITYSCAPES}
    table = np.zeros(instance_ids.max() + 1, np.int32)
    segments, numbers = [], itertools.count(1)
    for id_ in np.unique(instance_ids).tolist():
        category = id_ // 1000 or id_
        if category in evaluated:
            table[id_] = number = next(numbers)
            segments.append({"id": number, "category_id": category})
    return segments, table[instance_ids]
