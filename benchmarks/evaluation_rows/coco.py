"""COCO's mask AP beside pycocotools and the tools with its interface."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask
from m2f_jax.eval.metrics.coco.mask_ap import CocoMaskAPResult

from evaluation_rows.case import M2F, PYTHON, Case, Data, Tool
from m2f_jax.files import read_json, write_json

HEIGHT, WIDTH = 480, 640
CATEGORIES, OBJECTS, PREDICTIONS = 80, 7, 100  # of each image
ALIKE = 33  # predictions of each image that are of its objects
SHAPES = 2000  # objects that are drawn, and predictions of each; images take theirs from these
DIGITS = 12  # faster-coco-eval differs in the last; that hotcoco doesn't is a test of ours

# Arguments: the module, its class for evaluations, annotations, results, the file to write.
PEER = """
import importlib, json, sys
module, evaluator, truth, found, out = sys.argv[1:]
coco = importlib.import_module({"pycocotools": "pycocotools.coco"}.get(module, module)).COCO
place = {"pycocotools": "pycocotools.cocoeval"}.get(module, module)
truth = coco(truth)
evaluation = getattr(importlib.import_module(place), evaluator)(truth, truth.loadRes(found), "segm")
evaluation.evaluate()
evaluation.accumulate()
evaluation.summarize()
json.dump(list(map(float, evaluation.stats[:12])), open(out, "w"))
"""
PEERS = {
    "pycocotools": ("pycocotools", "COCOeval"),
    "hotcoco": ("hotcoco", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "COCOeval_faster"),
}


class Shape(NamedTuple):
    """An object, and predictions of it."""

    entry: dict[str, Any]
    predictions: list[dict[str, Any]]


def instance(data: Data) -> Case:
    """Returns the case of mask AP, from a JSON file of all masks."""
    truth, found = draw(data.images)

    @functools.cache
    def files(count: int) -> tuple[Path, Path]:
        """Writes the annotations and the results of the first images."""
        ids = {image["id"] for image in truth["images"][:count]}
        part = truth | {
            "images": truth["images"][:count],
            "annotations": [x for x in truth["annotations"] if x["image_id"] in ids],
        }
        paths = data.folder / f"truth_{count}.json", data.folder / f"found_{count}.json"
        write_json(paths[0], part)
        write_json(paths[1], found[: count * PREDICTIONS])
        return paths

    def plain(count: int, out: Path) -> Sequence[Any]:
        del out
        annotations, results = files(count)
        return [*M2F, "eval", "coco", annotations, "--predictions", results]

    def kept(count: int, out: Path) -> Sequence[Any]:
        return [*plain(count, out), "--out", out]

    def peer(module: str, evaluator: str) -> Tool:
        def command(count: int, out: Path) -> Sequence[Any]:
            return [*PYTHON, PEER, module, evaluator, *files(count), out / "stats.json"]

        return Tool(command, lambda out: rounded(read_json(out / "stats.json")))

    return Case(
        f"COCO mask AP, {PREDICTIONS} masks",
        {
            " by m2f eval": Tool(plain, lambda _: None),  # it prints one decimal only
            " by m2f eval --out": Tool(kept, our_numbers),
        },
        {name: peer(*names) for name, names in PEERS.items()},
    )


def our_numbers(out: Path) -> list[float]:
    """Returns the twelve numbers."""
    official = read_json(out / "results.json")["official"]
    return rounded([official[name] for name in CocoMaskAPResult.meanings])


def rounded(numbers: Sequence[float]) -> list[float]:
    """Returns numbers without their last digits."""
    return [round(x, DIGITS) for x in numbers]


def draw(count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the content of an annotation file and of a results file, of images in this number."""
    rng = np.random.default_rng(0)
    shapes = [draw_shape(rng) for _ in range(SHAPES)]
    images, annotations, results = [], [], []
    for image_id in range(1000, 1000 + 7 * count, 7):
        name = f"{image_id:012}.jpg"
        images.append({"id": image_id, "file_name": name, "height": HEIGHT, "width": WIDTH})
        here = [shapes[k] for k in rng.integers(SHAPES, size=OBJECTS)]
        for shape in here:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, **shape.entry}
                | {"iscrowd": int(rng.random() < 0.01)}
            )
        others = [shapes[k] for k in rng.integers(SHAPES, size=PREDICTIONS - ALIKE)]
        alike = [here[k] for k in rng.integers(OBJECTS, size=ALIKE)]
        scores = rng.random(PREDICTIONS) * np.repeat([1, 0.6], [ALIKE, PREDICTIONS - ALIKE])
        picks = rng.integers(len(shapes[0].predictions), size=PREDICTIONS)
        for shape, pick, score in zip(alike + others, picks.tolist(), scores.tolist(), strict=True):
            results.append({"image_id": image_id, **shape.predictions[pick], "score": score})
    categories = [{"id": k, "name": f"category {k}"} for k in range(1, CATEGORIES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draws an object as a polygon, and 8 predictions of it as compressed run lengths."""
    radius = np.exp(rng.uniform(np.log(8), np.log(150)))
    place, category = rng.random(2) * (WIDTH, HEIGHT), int(rng.integers(1, CATEGORIES + 1))
    polygon = draw_polygon(rng, place, radius)
    outline: Any = [polygon]
    area = np.ravel(coco_mask.area(coco_mask.frPyObjects(outline, HEIGHT, WIDTH)))[0]
    near: Any = [
        draw_polygon(rng, place + rng.normal(0, radius / 7, 2), radius * np.exp(rng.normal(0, 0.1)))
        for _ in range(8)
    ]
    masks = [
        {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}
        for rle in coco_mask.frPyObjects(near, HEIGHT, WIDTH)
    ]
    entry = {"category_id": category, "segmentation": [polygon], "area": float(area)}
    return Shape(entry, [{"category_id": category, "segmentation": mask} for mask in masks])


def draw_polygon(rng: np.random.Generator, place: np.ndarray, radius: float) -> list[float]:
    """Draws a polygon of 12 to 40 points around a place, within the image."""
    angles = np.sort(rng.random(rng.integers(12, 41))) * 2 * np.pi
    radii = radius * rng.uniform(0.6, 1, len(angles))
    points = place + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return points.clip(0, (WIDTH, HEIGHT)).round(2).ravel().tolist()
