"""What we export, scored by the official tools or by their rules, gives our numbers."""

import contextlib
import io
import json

import numpy as np
import pytest
from m2f_jax.eval.predictions.exports import export_folder, finish_export
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.masks.rle import encode_rle

SIZE = (240, 320)
COUNT = 4
CATEGORIES = [
    {"id": 3, "name": "cat", "isthing": 1},
    {"id": 7, "name": "dog", "isthing": 1},
    {"id": 300, "name": "grass", "isthing": 0},
]


def scene(rng):
    """A map of segments, few pixels of which are nothing, and the category of each."""
    segments, ids = [], np.zeros(SIZE, np.int32)
    for number in range(1, 13):
        top, left = rng.integers(0, SIZE[0] - 5), rng.integers(0, SIZE[1] - 5)
        height, width = rng.integers(4, 200, 2)
        ids[top : top + height, left : left + width] = number
    for number in np.unique(ids[ids > 0]).tolist():
        category = CATEGORIES[number % 3]["id"]
        crowd = int(number % 3 < 2 and rng.random() < 0.2)
        segments.append({"id": number, "category_id": category, "iscrowd": crowd})
    return ids, segments


def moved(rng, ids):
    return np.roll(ids, tuple(rng.integers(-4, 5, 2)), (0, 1))


def rgb(ids):
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def read_rgb(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64) @ [1, 256, 65536]


@pytest.fixture
def scenes():
    rng = np.random.default_rng(0)
    return [(*scene(rng), rng) for _ in range(COUNT)]


@pytest.fixture
def truth(scenes, tmp_path):
    """The scenes in both of COCO's formats; ids and names of files aren't the same."""
    images, panoptic, objects = [], [], []
    for k, (ids, segments, _) in enumerate(scenes):
        height, width = SIZE
        images.append({"id": k, "file_name": f"{k + 1}.png", "height": height, "width": width})
        panoptic.append({"image_id": k, "file_name": f"{k}.png", "segments_info": segments})
        (tmp_path / "panoptic").mkdir(exist_ok=True)
        Image.fromarray(rgb(ids)).save(tmp_path / "panoptic" / f"{k}.png")
        for segment in segments:
            mask = ids == segment["id"]
            area = {"area": int(mask.sum()), "segmentation": encode_rle(mask)}
            objects.append(segment | area | {"image_id": k, "id": len(objects) + 1})
    for name, annotations in (("panoptic", panoptic), ("instance", objects)):
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def instances_of(ids, segments, rng):
    """All segments twice, a little away, some of another class."""
    found = [segment for segment in segments for _ in range(2)]
    labels = [
        segment["id"] % 3 if rng.random() < 0.8 else int(rng.integers(3)) for segment in found
    ]
    return InstanceSegmentation.from_masks(
        scores=np.sort(rng.random(len(found), np.float32))[::-1].copy(),
        labels=np.array(labels, np.int32),
        masks=np.array([moved(rng, ids) == segment["id"] for segment in found]),
        queries=np.arange(len(found), dtype=np.int32),
    )


def panoptic_of(ids, segments, rng):
    """The segments, a little away and with other ids, some of another class or left out."""
    shifted, segment_map, found = moved(rng, ids), np.zeros(SIZE, np.int32), []
    for segment in segments:
        mask = shifted == segment["id"]
        if rng.random() < 0.85 and mask.any():
            label = segment["id"] % 3 if rng.random() < 0.8 else int(rng.integers(3))
            id_ = 1000 * segment["id"]
            segment_map[mask] = id_
            found.append(Segment(id=id_, label=label, is_thing=label < 2, score=0.5))
    return PanopticSegmentation(segment_map=segment_map, segments=tuple(found))


def semantic_of(ids, segments, rng):
    del segments
    return moved(rng, ids) % 3


def exported(truth, task, scenes, make):
    """Our numbers, and the folder of the export."""
    file = truth / ("instance.json" if task == "instance" else "panoptic.json")
    dataset = coco_dataset(file, truth, task)
    export = truth / "export"
    folder = export_folder(export, dataset, task)
    evaluation = evaluation_of(dataset, task, export=folder)
    metric = evaluation.empty()
    for index, (ids, segments, rng) in enumerate(scenes):
        found = make(ids, segments, rng)
        metric.merge(evaluation.measure(index, evaluation.truth(index), found))
    finish_export(folder, dataset, task, COUNT)
    return metric.result(), export


def test_instances_in_pycocotools(truth, scenes):
    ours, export = exported(truth, "instance", scenes, instances_of)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth / "instance.json")
        evaluation = COCOeval(coco, coco.loadRes(str(export / "predictions.json")), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("ap", "ap50", "ap75", "aps", "apm", "apl", "ar1", "ar10", "ar100", "ars", "arm", "arl")
    assert [getattr(ours, name) for name in names] == evaluation.stats.tolist()
    assert 0 < ours.aps < 1
    assert 0 < ours.apm < 1
    assert 0 < ours.apl < 1


def official_panoptic_quality(truth, export):
    """PQ, SQ and RQ of each category, by the rules of panopticapi's evaluation.py."""
    theirs = json.loads((truth / "panoptic.json").read_text())["annotations"]
    found = json.loads((export / "predictions.json").read_text())["annotations"]
    found = {entry["image_id"]: entry for entry in found}
    iou, tp, fp, fn = (dict.fromkeys((x["id"] for x in CATEGORIES), 0) for _ in range(4))
    for entry in theirs:
        prediction = found[entry["image_id"]]
        truth_map = read_rgb(truth / "panoptic" / entry["file_name"])
        found_map = read_rgb(export / "predictions" / prediction["file_name"])
        truths = {x["id"]: x for x in entry["segments_info"]}
        predicted = {x["id"]: x for x in prediction["segments_info"]}
        pairs, counts = np.unique(
            np.stack([truth_map.ravel(), found_map.ravel()]), axis=1, return_counts=True
        )
        shared = dict(zip(map(tuple, pairs.T.tolist()), counts.tolist(), strict=True))
        area = {id_: int((found_map == id_).sum()) for id_ in predicted}
        matched = set()
        for (a, b), common in shared.items():
            if a not in truths or b not in predicted or truths[a]["iscrowd"]:
                continue
            category = truths[a]["category_id"]
            if category != predicted[b]["category_id"]:
                continue
            union = area[b] + int((truth_map == a).sum()) - common - shared.get((0, b), 0)
            if common / union > 0.5:
                tp[category] += 1
                iou[category] += common / union
                matched |= {("truth", a), ("found", b)}
        crowds = {x["category_id"]: id_ for id_, x in truths.items() if x["iscrowd"]}
        for id_, x in truths.items():
            if ("truth", id_) not in matched and not x["iscrowd"]:
                fn[x["category_id"]] += 1
        for id_, x in predicted.items():
            if ("found", id_) in matched:
                continue
            # As there, only the last of several crowds of a category counts.
            ignored = shared.get((0, id_), 0)
            if x["category_id"] in crowds:
                ignored += shared.get((crowds[x["category_id"]], id_), 0)
            if ignored / area[id_] <= 0.5:
                fp[x["category_id"]] += 1
    return {
        x["name"]: (
            iou[x["id"]] / (tp[x["id"]] + fp[x["id"]] / 2 + fn[x["id"]] / 2),
            tp[x["id"]],
            fp[x["id"]],
            fn[x["id"]],
        )
        for x in CATEGORIES
    }


def test_panoptic_segments_by_the_official_rules(truth, scenes):
    ours, export = exported(truth, "panoptic", scenes, panoptic_of)
    expected = official_panoptic_quality(truth, export)
    for name, (pq, tp, fp, fn) in expected.items():
        row = ours.per_class[name]
        assert (row.tp, row.fp, row.fn) == (tp, fp, fn)
        assert row.pq == pytest.approx(pq, abs=1e-15)
        assert fp > 0
        assert fn > 0
    assert 0 < ours.all.pq < 1


def test_semantic_maps_by_the_official_rules(truth, scenes):
    ours, export = exported(truth, "semantic", scenes, semantic_of)
    entries = json.loads((truth / "panoptic.json").read_text())["annotations"]
    intersections, unions = np.zeros((2, len(CATEGORIES)), int)
    for k, entry in enumerate(entries):
        truth_map = read_rgb(truth / "panoptic" / entry["file_name"])
        classes = {x["id"]: x["category_id"] for x in entry["segments_info"]}
        expected = np.vectorize(lambda id_, known=classes: known.get(id_, 0))(truth_map)
        with Image.open(export / f"{k}_pred.png") as image:
            found = np.asarray(image)
        for index, category in enumerate(CATEGORIES):
            a, b = expected == category["id"], (found == category["id"]) & (expected > 0)
            intersections[index] += (a & b).sum()
            unions[index] += (a | b).sum()
    for category, iou in zip(CATEGORIES, intersections / unions, strict=True):
        assert ours.per_class[category["name"]].iou == pytest.approx(iou, abs=1e-15)
    assert 0 < ours.miou < 1
