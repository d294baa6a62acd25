import contextlib
import copy
import io
import json
import math

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from m2f_jax.eval.metrics.coco import tool
from m2f_jax.eval.metrics.coco.annotations import CocoAnnotations
from m2f_jax.eval.metrics.coco.mask_ap import CocoMaskAP
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from m2f_jax.masks.rle import encode_rle

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def blob(rng, height, width):
    """A rectangle with holes, of any size from a pixel to the whole image."""
    mask = np.zeros((height, width), bool)
    top, left = rng.integers(0, height), rng.integers(0, width)
    mask[top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)] = True
    return mask & (rng.random(mask.shape) < 0.95)


def make_scene(seed, categories=3, crowds=0.15, strings=False):
    """A random data set, and detections by image: masks, category ids and scores."""
    rng = np.random.default_rng(seed)
    sizes = [tuple(map(int, rng.integers(20, 130, 2))) for _ in range(4)]
    ids = rng.choice(1000, len(sizes), replace=False).tolist()
    ids = [f"image {n}" for n in ids] if strings else ids
    category_ids = (rng.choice(90, categories, replace=False) + 1).tolist()
    annotations, detections = [], {}
    for image, (height, width) in zip(ids, sizes, strict=True):
        masks, found, scores = [], [], []
        for _ in range(rng.integers(0, 6)):
            mask, category = blob(rng, height, width), int(rng.choice(category_ids[:-1]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "segmentation": encode_rle(mask),
                    "area": float(mask.sum()),
                    "iscrowd": int(rng.random() < crowds),
                }
            )
            for _ in range(rng.integers(0, 4)):
                masks.append(np.roll(mask, tuple(rng.integers(-3, 4, 2)), (0, 1)))
                found.append(category if rng.random() < 0.8 else int(rng.choice(category_ids)))
                scores.append(float(np.round(rng.random(), 1)))  # so that there are ties
        masks = np.array(masks, bool).reshape(-1, height, width)
        detections[image] = masks, found, scores
    dataset = {
        "images": [
            {"id": image, "height": height, "width": width, "file_name": f"{image}.jpg"}
            for image, (height, width) in zip(ids, sizes, strict=True)
        ],
        "categories": [{"id": n, "name": f"category {n}"} for n in category_ids],
        "annotations": annotations,
    }
    return dataset, detections


def official(dataset, detections, images=None):
    """The twelve numbers and the precision array of pycocotools as one usually runs it."""
    results = [
        {"image_id": image, "category_id": category, "segmentation": encode_rle(mask), "score": s}
        for image, columns in detections.items()
        for mask, category, s in zip(*columns, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval["precision"][..., 0, 2]


def evaluated(dataset, detections, **settings):
    metric = CocoMaskAP(dataset, **settings)
    for image, columns in detections.items():
        metric.add(image, *columns)
    return metric


def numbers(result):
    """In the official order, with -1 for NaN."""
    values = [getattr(result, name.lower()) for name in NAMES]
    return np.nan_to_num(values, nan=-1.0)


def assert_equal(result, expected):
    """To the last bit."""
    stats, precision = expected
    np.testing.assert_array_equal(numbers(result), stats)
    np.testing.assert_array_equal(np.nan_to_num(result.precision, nan=-1.0), precision)


@pytest.mark.parametrize("seed", range(25))
def test_the_numbers_are_those_of_pycocotools(seed, capfd):
    dataset, detections = make_scene(seed)
    metric = evaluated(dataset, detections)
    capfd.readouterr()
    result = metric.result()
    assert capfd.readouterr() == ("", "")
    assert_equal(result, official(dataset, detections))
    assert len(metric) == 4
    for k, category in enumerate(sorted(dataset["categories"], key=lambda entry: entry["id"])):
        curve = official(dataset, detections)[1][:, :, k]
        expected = curve.mean() if curve.max() > -1 else math.nan
        np.testing.assert_equal(result.per_category[category["name"]].ap, expected)


@pytest.mark.parametrize("package", ["hotcoco", "faster_coco_eval"])
def test_the_other_backends_give_the_same(package, monkeypatch):
    monkeypatch.setattr(tool, "AT_ONCE", 1)  # so that two threads feed hotcoco
    backend = package.replace("_", "-")
    pytest.importorskip(package, reason=f"needs {package} (pip install m2f-jax[coco])")
    for seed in range(25):
        dataset, detections = make_scene(seed, strings=seed % 5 == 0)
        for images in ("all", "added"):
            expected = evaluated(dataset, detections, images=images, tool="pycocotools").result()
            result = evaluated(dataset, detections, images=images, tool=backend).result()
            tolerance = 0 if package == "hotcoco" else 1e-15
            np.testing.assert_allclose(numbers(result), numbers(expected), rtol=0, atol=tolerance)
            assert result.tool.startswith(f"{backend} ")
    dataset, detections = crowded()
    many, expected = (
        numbers(evaluated(dataset, detections, tool=name).result())
        for name in (backend, "pycocotools")
    )
    np.testing.assert_allclose(many, expected, rtol=0, atol=tolerance)
    for images in ("all", "added"):  # if it is told of no image, a tool may take all of them
        empty, expected = (
            CocoMaskAP(make_scene(0)[0], tool=name, images=images).result()
            for name in (backend, "pycocotools")
        )
        np.testing.assert_array_equal(numbers(empty), numbers(expected))


def test_a_part_of_the_images():
    dataset, detections = make_scene(3)
    kept = dict(list(detections.items())[1:3])
    assert_equal(evaluated(dataset, kept).result(), official(dataset, kept))
    part = evaluated(dataset, kept, images="added").result()
    assert_equal(part, official(dataset, kept, images=list(kept)))
    assert part.ap > evaluated(dataset, kept).result().ap
    nothing = CocoMaskAP(dataset, images="added").result()
    assert np.isnan([getattr(nothing, name.lower()) for name in NAMES]).all()


def test_without_detections_categories_with_objects_have_zero():
    dataset, detections = make_scene(1, crowds=0)
    metric = CocoMaskAP(dataset)
    for image, (masks, _, _) in detections.items():
        metric.add(image, masks[:0], [], [])
    result = metric.result()
    assert result.ap == result.ap50 == result.ar100 == 0
    have_objects = {entry["category_id"] for entry in dataset["annotations"]}
    for category in dataset["categories"]:
        expected = 0 if category["id"] in have_objects else math.nan
        np.testing.assert_equal(result.per_category[category["name"]].ap, expected)


def crowded():
    """30 objects of one category in an image, and 150 detections, many of equal scores."""
    rng = np.random.default_rng(0)
    masks = np.array([square((40, 400), 0, 13 * k, 12) for k in range(30)])
    dataset = one_object() | {
        "images": [{"id": 7, "height": 40, "width": 400}],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": 3, "segmentation": encode_rle(mask)}
            | {"area": 144, "iscrowd": 0}
            for n, mask in enumerate(masks, 1)
        ],
    }
    found = np.concatenate([masks, *[masks[::-1] & (rng.random(masks.shape) < 0.7)] * 4])
    return dataset, {7: (found, [3] * 150, np.linspace(0, 1, 150).round(2).tolist())}


def test_a_hundred_detections_of_a_category_count():
    dataset, detections = crowded()
    result = evaluated(dataset, detections).result()
    assert_equal(result, official(dataset, detections))
    assert result.ar1 < result.ar10 < result.ar100


def square(size, top, left, length):
    mask = np.zeros(size, bool)
    mask[top : top + length, left : left + length] = True
    return mask


def one_object(**changes):
    size = (200, 200)
    entry = {
        "id": 1,
        "image_id": 7,
        "category_id": 3,
        "segmentation": encode_rle(square(size, 0, 0, 100)),
        "area": 10_000,
        "iscrowd": 0,
    }
    return {
        "images": [{"id": 7, "height": size[0], "width": size[1]}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [{k: v for k, v in (entry | changes).items() if v is not None}],
    }


def test_one_hit_above_and_below_a_false_alarm():
    hit, miss = square((200, 200), 0, 0, 100), square((200, 200), 120, 120, 50)
    for scores, expected in (([0.9, 0.1], 1.0), ([0.1, 0.9], 0.5)):
        metric = CocoMaskAP(one_object())
        metric.add(7, np.array([hit, miss]), [3, 3], scores)
        result = metric.result()
        assert result.ap50 == pytest.approx(expected, abs=1e-12)
        assert result.apl == pytest.approx(1)  # the false alarm is of medium size
        assert math.isnan(result.aps)
        assert math.isnan(result.apm)
        assert result.ar1 == (1.0 if expected == 1 else 0.0)
        assert result.precision.shape == (10, 101, 1)


def test_an_object_with_the_id_zero_can_be_found():
    masks = square((200, 200), 0, 0, 100)[None]
    scores = {}
    for number in (0, 1):  # pycocotools takes the match of the object 0 for none
        metric = CocoMaskAP(one_object(id=number))
        metric.add(7, masks, [3], [0.5])
        scores[number] = metric.result().ap
    assert scores[0] == scores[1] == pytest.approx(1)


def test_segmentations_of_every_kind():
    mask = square((200, 200), 0, 0, 100)
    flat = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(starts, prepend=0, append=flat.size).tolist()
    rle = encode_rle(mask)
    kinds = [
        rle,
        rle | {"counts": rle["counts"].encode()},
        {"size": [200, 200], "counts": runs},
        [[0, 0, 100, 0, 100, 100, 0, 100]],
        [[0, 0, 50, 0, 50, 100, 0, 100], [50, 0, 100, 0, 100, 100, 50, 100]],
    ]
    for kind in kinds:
        annotations = CocoAnnotations.of(one_object(segmentation=kind, area=None, iscrowd=None))
        assert coco_mask.area(annotations.objects[0]["segmentation"]) == 10_000
        assert annotations.objects[0]["area"] == 10_000
        assert annotations.objects[0]["iscrowd"] == 0
    for kind in kinds[:3]:
        metric = CocoMaskAP(one_object())
        metric.add(7, [kind], [3], [0.5])
        assert metric.result().ap == pytest.approx(1)


def test_the_order_of_images_and_merges_changes_nothing():
    dataset, detections = make_scene(5)
    expected = evaluated(dataset, detections).result()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(list(detections)).tolist()
        annotations = CocoAnnotations.of(dataset)
        parts = [CocoMaskAP(annotations), CocoMaskAP(annotations)]
        for image in order:
            parts[image % 2].add(image, *detections[image])
        parts[0].merge(parts[1])
        np.testing.assert_array_equal(numbers(parts[0].result()), numbers(expected))
        np.testing.assert_array_equal(parts[0].result().precision, expected.precision)


@pytest.mark.parametrize("strings", [False, True])
def test_save_and_load(tmp_path, strings):
    dataset, detections = make_scene(2, strings=strings)
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(dataset))
    metric = evaluated(file, detections, images="added")
    metric.save(tmp_path / "metric.npz")
    metric.save(tmp_path / "metric.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.json", "metric.npz"]
    for source in (None, file, dataset, metric.annotations):
        loaded = CocoMaskAP.load(tmp_path / "metric.npz", source)
        assert len(loaded) == len(detections)
        assert loaded.images == "added"
        np.testing.assert_array_equal(numbers(loaded.result()), numbers(metric.result()))
    with pytest.raises(ValueError, match=r"both metrics have the images"):
        metric.merge(loaded)
    with pytest.raises(ValueError, match=r"metric\.npz was made with other annotations"):
        CocoMaskAP.load(tmp_path / "metric.npz", make_scene(9)[0])

    CocoMaskAP(dataset).save(tmp_path / "empty.npz")
    assert len(CocoMaskAP.load(tmp_path / "empty.npz", dataset)) == 0
    with pytest.raises(ValueError, match="where its annotations are from; pass them"):
        CocoMaskAP.load(tmp_path / "empty.npz")


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "metric.npz"
    CocoMaskAP(one_object()).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"metric\.npz isn't a whole file of CocoMaskAP"):
        CocoMaskAP.load(path, one_object())
    np.savez(path, format="something else")
    with pytest.raises(ValueError, match="its format is something else"):
        CocoMaskAP.load(path, one_object())
    (tmp_path / "cut.json").write_text(json.dumps(one_object())[:-9])
    with pytest.raises(ValueError, match=r"cut\.json"):
        CocoMaskAP(tmp_path / "cut.json")
    with pytest.raises(FileNotFoundError):
        CocoMaskAP(tmp_path / "absent.json")


def test_detections_that_do_not_fit():
    masks = np.zeros((2, 200, 200), bool)
    metric = CocoMaskAP(one_object())
    for arguments, message in (
        ((8, masks, [3, 3], [0.5, 0.5]), "image 8: the annotations have no image of this id"),
        ((7, masks, [3, 0], [0.5, 0.5]), r"no categories \[0\].*\[3\]. Class indices"),
        ((7, masks, [3, 3], [0.5, np.nan]), "image 7: some scores are not finite"),
        ((7, masks, [3], [0.5, 0.5]), "2 masks, category ids of the shape"),
        ((7, masks[:, :100], [3, 3], [0.5, 0.5]), r"they must be bool \[2, 200, 200\]"),
        ((7, masks.astype(np.uint8), [3, 3], [0.5, 0.5]), "the masks are uint8"),
        ((7, [encode_rle(masks[0, :100])], [3], [0.5]), r"image 7: a mask's size is \[100, 200\]"),
        ((7, [{"size": [200, 200]}], [3], [0.5]), "image 7: a mask must be a run-length"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.add(*arguments)
    assert len(metric) == 0
    metric.add(7, masks, [3, 3], [0.5, 0.5])
    with pytest.raises(ValueError, match="image 7: added already"):
        metric.add(7, masks, [3, 3], [0.5, 0.5])


def test_what_differs_is_not_merged():
    for other in (CocoMaskAP(one_object(area=5)), CocoMaskAP(one_object(), images="added")):
        with pytest.raises(ValueError, match="different annotations or settings"):
            CocoMaskAP(one_object()).merge(other)


def test_a_missing_backend_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hotcoco", None)
    with pytest.raises(ImportError, match="pip install hotcoco"):
        CocoMaskAP(one_object(), tool="hotcoco")


def test_json_has_the_usual_names():
    metric = CocoMaskAP(one_object())
    metric.add(7, square((200, 200), 0, 0, 100)[None], [3], [0.5])
    content = json.loads(json.dumps(metric.result().to_json(), allow_nan=False))
    assert list(content) == [*NAMES, "per_category", "tool"]
    assert content["APs"] is None
    assert content["per_category"]["car"] == {"AP": content["AP"], "AP50": content["AP50"]}
