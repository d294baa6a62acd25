"""The pictures of a report show each fault where it is."""

import base64
import io
import json
import re

import numpy as np
import pytest
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.predictions.files import InstancePrediction, PanopticPrediction
from m2f_jax.eval.report.pictures import worst_pictures
from m2f_jax.eval.report.pictures.classes import pixel_sides
from m2f_jax.eval.report.pictures.outlines import outline_path
from m2f_jax.eval.tasks import InstanceEvaluation, PanopticEvaluation
from PIL import Image

from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.dataset import PanopticTruth
from m2f_jax.labels import CITYSCAPES, Label
from m2f_jax.visualization.color import class_colors
from tests.eval.report.pages import write
from tests.eval.report.scenes import (
    OneImage,
    cityscapes_scene,
    coco_content,
    drawn_file,
    squares,
)


def verdicts_of(side):
    return {shape.title: shape.style for shape in side.shapes}


@pytest.mark.parametrize("encoded", [False, True])
def test_each_verdict_of_cityscapes_by_hand(tmp_path, encoded):
    dataset, prediction = cityscapes_scene(tmp_path, encoded)
    evaluation = InstanceEvaluation(dataset, CITYSCAPES)
    metric = evaluation.count(0, evaluation.truth(0), prediction)
    tally = analyze(metric, metric.result()).tally
    [picture] = worst_pictures(evaluation, tally, {0: prediction}.__getitem__)
    assert verdicts_of(picture.prediction) == {
        "car 0.95: right": "right",
        "car 0.94: duplicate": "duplicate",
        "truck 0.90: wrong class": "classification",
        "car 0.80: poor mask": "localisation",
        "bus 0.70: wrong class and mask": "both",
        "person 0.65: not judged": "ignored",
        "bicycle 0.60: background": "background",
    }
    styles = sorted(shape.style for shape in picture.ground_truth.shapes)
    assert styles == ["found", *["missed"] * 4]
    assert picture.ground_truth.words == "ground truth: 1 found, 4 missed"
    assert picture.caption == "4 missed, 5 false, 1 right (image.png)"
    labels = {shape.label for shape in picture.prediction.shapes}
    assert {"car 0.95", "C truck 0.90"} <= labels


def test_verdicts_of_coco_are_those_of_its_metric(tmp_path):
    """An overlap of one half is a match, and what lies on a crowd isn't judged."""
    square = squares(26001) == 26001
    half = square & (np.arange(256) < 20)
    drawn_file(tmp_path / "1.png")
    content = coco_content([square, np.roll(square, 100, 1)], crowds=[0, 1])
    (tmp_path / "truth.json").write_text(json.dumps(content))
    dataset = coco_dataset(tmp_path / "truth.json", tmp_path, "instance")
    evaluation = InstanceEvaluation(dataset, dataset.categories)
    found = np.stack([half, np.roll(half, 100, 1), np.roll(square, 180, 1)])
    prediction = InstancePrediction(found, np.array([1, 1, 1]), np.array([0.9, 0.8, 0.7]))
    metric = evaluation.count(0, None, prediction)
    tally = analyze(metric, metric.result()).tally
    assert {name: int(count[0]) for name, count in tally.image_counts().items()} == {
        "right": 1,
        "false": 1,
        "missed": 0,
    }
    [picture] = worst_pictures(evaluation, tally, {0: prediction}.__getitem__)
    assert verdicts_of(picture.prediction) == {
        "car 0.90: right": "right",
        "car 0.80: not judged": "ignored",
        "car 0.70: background": "background",
    }


def test_verdicts_of_panoptic_segments_are_those_of_its_metric(tmp_path):
    """Void is taken from unions, and a segment that lies on it mostly isn't judged."""
    truth = np.zeros((20, 40), np.int32)
    truth[:10], truth[10:, :10], truth[10:, 10:20] = 1, 2, 3
    found = np.zeros_like(truth)
    found[:10], found[10:, :10], found[10:, 14:24], found[10:, 24:34] = 1, 2, 3, 4
    drawn_file(tmp_path / "1.png", truth.shape)
    names = ["road", "car", "bus"]
    infos = [{"id": i, "category_id": i} for i in (1, 2, 3)]
    categories = tuple(Label(id=i, name=x, is_thing=i > 1) for i, x in enumerate(names, 1))
    dataset = OneImage(tmp_path / "1.png", categories, PanopticTruth(truth, infos))
    segments = [{"id": i, "category_id": k} for i, k in ((1, 1), (2, 3), (3, 3), (4, 3))]
    prediction = PanopticPrediction(found, segments)
    evaluation = PanopticEvaluation(dataset, categories)
    metric = evaluation.count(0, evaluation.truth(0), prediction)
    analysis = analyze(metric, metric.result())
    [picture] = worst_pictures(evaluation, analysis.tally, {0: prediction}.__getitem__)
    styles = [(shape.title, shape.style) for shape in picture.prediction.shapes]
    assert sorted(styles) == [
        ("bus: not judged", "ignored"),
        ("bus: right", "right"),  # 6 of 10 columns, and the others on void
        ("bus: wrong class", "classification"),
        ("road: right", "right"),
    ]
    assert picture.caption == "1 missed, 1 false, 2 right"
    assert picture.prediction.words == "prediction: 2 right, 1 wrong class, 1 not judged"
    rows = write(tmp_path / "r.html", metric).rows
    at = next(i for i, row in enumerate(rows) if row[0].startswith("truth"))
    assert rows[at][1:] == [*names, "background"]
    assert rows[at + 1 :] == [
        ["road", "1", "·", "·", "·"],
        ["car", "·", "·", "1", "·"],
        ["bus", "·", "·", "1", "·"],
        ["background", "·", "·", "·", ""],
    ]


def test_wrong_pixels_are_striped_and_void_is_clear():
    truth = np.zeros((40, 80), int)
    truth[:, 60:] = -1
    found = np.zeros_like(truth)
    found[:, 30:] = 1
    sides = pixel_sides(truth, found, ["road", "car"])
    left, right = (
        np.array(Image.open(io.BytesIO(base64.b64decode(side.overlay))).convert("RGBA")).astype(int)
        for side in sides
    )
    road, car = class_colors(("road", "car")).astype(int)
    assert np.abs(left[20, 5, :3] - road).max() < 12
    assert left[20, 70, 3] == right[20, 70, 3] == 0
    colors = right[20, 32:58]
    black = np.abs(colors[:, :3]).max(axis=1) < 12
    assert 0.15 < black.mean() < 0.35
    assert np.abs(colors[~black][:, :3] - car).max() < 12
    assert sides[1].words == "prediction: 50.0 % of the pixels are wrong"
    assert [shape.label for shape in sides[0].shapes] == ["road"]
    assert {shape.label for shape in sides[1].shapes} == {"road", "car"}


def test_outlines_go_around_masks_and_holes():
    mask = np.zeros((30, 40), bool)
    mask[5:25, 10:30] = True
    assert outline_path(mask) == "M10 5l20 0 0 20 -20 0z"
    mask[10:15, 15:20] = False
    assert outline_path(mask).count("M") == 2
    rows, columns = np.mgrid[:200, :200]
    disk = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    path = outline_path(disk)
    corners = np.cumsum(np.array(re.findall(r"-?\d+", path), int).reshape(-1, 2), axis=0)
    assert 20 < len(corners) < 120
    assert np.abs(np.hypot(*(corners - 100).T) - 80).max() < 2
    assert outline_path(np.zeros((4, 4), bool)) == ""


def test_photographs_that_are_not_there_leave_a_word(tmp_path):
    dataset, prediction = cityscapes_scene(tmp_path, encoded=True)
    dataset.images[0].image.unlink()
    evaluation = InstanceEvaluation(dataset, CITYSCAPES)
    metric = evaluation.count(0, evaluation.truth(0), prediction)
    tally = analyze(metric, metric.result()).tally
    assert worst_pictures(evaluation, tally, {0: prediction}.__getitem__) == []
    assert "written without pictures" in write(tmp_path / "r.html", metric).source
