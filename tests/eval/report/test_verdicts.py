"""What pictures say of an image is what its metric counted, whatever lies on what."""

import json
from collections import Counter

import numpy as np
import pytest
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.predictions.files import InstancePrediction, PanopticPrediction
from m2f_jax.eval.report.pictures.worst import picture_of
from m2f_jax.eval.tasks import evaluation_of

from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.dataset import CityscapesTruth, PanopticTruth
from m2f_jax.labels import CITYSCAPES, Label
from m2f_jax.masks.rle import encode_rle
from tests.eval.report.scenes import OneImage, coco_content, drawn_file

SIZE = (64, 256)
CATEGORIES = tuple(Label(id=k, name=f"class {k}", is_thing=True) for k in (1, 2))


def rectangles(rng, count):
    """Masks on a coarse grid, so that shares of exactly one half occur."""
    masks = np.zeros((count, *SIZE), bool)
    for mask in masks:
        top, left = 8 * rng.integers(0, 5), 8 * rng.integers(0, 9)
        height, width = 8 * rng.integers(1, 4, 2)
        mask[top : top + height, left : left + width] = True
    return masks


def predicted(rng, classes):
    """Twenty instances, some of them twice and a little off, with ties among their scores."""
    masks = rectangles(rng, 20)
    masks[10:] = np.roll(masks[:10], 8 * rng.integers(0, 2), axis=2)
    return InstancePrediction(masks, rng.choice(classes, 20), rng.integers(3, 10, 20) / 10)


def of_coco(rng, folder):
    """Objects and overlapping crowds of two classes."""
    content = coco_content(rectangles(rng, 14), crowds=[0] * 8 + [1] * 6)
    for entry in content["annotations"]:
        entry["category_id"] = int(rng.integers(1, 3))
    return read(content, folder), predicted(rng, [1, 2])


def of_lvis(rng, folder):
    """The same by LVIS's rules, of a class of which not all are marked, and one not asked for."""
    content = coco_content(rectangles(rng, 5), crowds=[0] * 5)
    content["categories"] = [
        {"id": k, "name": str(k), "frequency": "c", "synset": f"{k}.n.01"} for k in (1, 2, 3)
    ]
    for entry in content["annotations"]:
        entry["category_id"] = int(rng.integers(1, 3))
    absent = [x for x in (1, 2) if x not in {e["category_id"] for e in content["annotations"]}]
    content["images"][0] |= {
        "neg_category_ids": absent,
        "not_exhaustive_category_ids": [1],
        "coco_url": "http://images.cocodataset.org/val2017/1.png",
    }
    return read(content, folder), predicted(rng, [1, 2, 3])


def read(content, folder):
    (folder / "truth.json").write_text(json.dumps(content))
    return coco_dataset(folder / "truth.json", folder, "instance")


def of_cityscapes(rng, folder):
    """Cars, caravans and groups, large ones and such as are too small to count, on void."""
    ids = np.where(np.arange(SIZE[1]) < 128, 7, 0) * np.ones(SIZE, int)
    for k, mask in enumerate(rectangles(rng, 12)):
        ids[mask] = rng.choice([26000 + k, 24000 + k, 29000 + k, 26])
    ids[::9, ::4] = 26
    found = predicted(rng, [24, 26])
    for mask, id_ in zip(found.masks, np.unique(ids[ids > 1000]), strict=False):
        mask[:] = ids == id_
    truth = CityscapesTruth(ids.astype(np.int32), None)
    return OneImage(folder / "1.png", CITYSCAPES, truth, "cityscapes"), found


def of_segments(rng, folder):
    """Segments, of which several of a class may be crowds, and void."""
    maps = np.zeros((2, *SIZE), np.int32)
    infos = []
    for segment_map in maps:
        for k, mask in enumerate(rectangles(rng, 14), 1):
            segment_map[mask] = k
        ids = np.unique(segment_map[segment_map > 0]).tolist()
        infos.append([{"id": k, "category_id": int(rng.integers(1, 3))} for k in ids])
    for info in infos[0]:
        info["iscrowd"] = int(rng.random() < 0.4)
    dataset = OneImage(folder / "1.png", CATEGORIES, PanopticTruth(maps[0], infos[0]))
    return dataset, PanopticPrediction(maps[1], infos[1])


@pytest.mark.parametrize("draw", [of_coco, of_lvis, of_cityscapes, of_segments])
def test_verdicts_add_up_to_what_the_metric_counted(tmp_path, draw):
    drawn_file(tmp_path / "1.png", SIZE)
    task = "panoptic" if draw is of_segments else "instance"
    seen = Counter()
    for seed in range(6):
        dataset, prediction = draw(np.random.default_rng(seed), tmp_path)
        evaluation = evaluation_of(dataset, task)
        metric = evaluation.count(0, evaluation.truth(0), prediction)
        counts = analyze(metric, metric.result()).tally.image_counts()
        picture = picture_of(evaluation, 0, prediction, "1", "")
        truth, found = (
            Counter(shape.style for shape in side.shapes)
            for side in (picture.ground_truth, picture.prediction)
        )
        right, ignored = found.pop("right", 0), found.pop("ignored", 0)
        verdicts = {"right": right, "false": found.total(), "missed": truth["missed"]}
        assert verdicts == {name: int(column[0]) for name, column in counts.items()}
        assert truth["found"] == right
        seen += Counter(verdicts | {"ignored": ignored})
    assert set(seen) == {"right", "false", "missed", "ignored"}


def test_overlapping_crowds_do_not_add_up(tmp_path):
    """Half of a prediction on each of two crowds is on neither by more than half; COCO's rule."""
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:50] = True
    left, right = mask & (np.arange(SIZE[1]) < 26), mask & (np.arange(SIZE[1]) >= 34)
    drawn_file(tmp_path / "1.png", SIZE)
    dataset = read(coco_content([left, right], crowds=[1, 1]), tmp_path)
    evaluation = evaluation_of(dataset, "instance")
    prediction = InstancePrediction([encode_rle(mask)], np.array([1]), np.array([0.9]))
    picture = picture_of(evaluation, 0, prediction, "1", "")
    assert [shape.style for shape in picture.prediction.shapes] == ["background"]
