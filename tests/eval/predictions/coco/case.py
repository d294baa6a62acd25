"""Three images with a square each: the ground truth, and what is right or wrong about them."""

import json
import math

import numpy as np
import pytest
from m2f_jax.eval.predictions.coco import find_coco_predictions
from m2f_jax.eval.predictions.files import measure_files
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax.masks.rle import encode_rle

SIZE = (64, 96)


def square(left):
    mask = np.zeros(SIZE, bool)
    mask[10:40, left : left + 30] = True
    return mask


MASKS = [square(5), square(30), square(60)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def content_of(files=("0.png", "1.png", "2.png"), ids=(1, 2, 3)):
    """A square in each image; of the ids 1, 2 and 3, two are the names of other images' files."""
    images = [
        {"id": id_, "file_name": file, "height": 64, "width": 96}
        for id_, file in zip(ids, files, strict=True)
    ]
    annotations = [
        {"id": k + 1, "image_id": id_, "category_id": k % 2 + 1, "segmentation": encode_rle(mask)}
        for k, (id_, mask) in enumerate(zip(ids, MASKS, strict=True))
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def result(k, image_id, **changes):
    """What is right for image k, under an id."""
    entry = {"image_id": image_id, "category_id": k % 2 + 1, "score": 0.9 - 0.1 * k}
    return entry | {"segmentation": encode_rle(MASKS[k])} | changes


def results(*image_ids):
    return [result(k, image_id) for k, image_id in enumerate(image_ids)]


def score(path, dataset, task="instance"):
    """The official numbers."""
    evaluation = evaluation_of(dataset, task)
    files = find_coco_predictions(path, task, dataset.images, dataset)
    metric = evaluation.empty()
    for part in measure_files(evaluation, dataset.images, files):
        metric.merge(part)
    return metric.result()


def refused(path, dataset, message, task="instance"):
    with pytest.raises(ValueError, match=message) as caught:
        find_coco_predictions(path, task, dataset.images, dataset)
    assert str(path) in str(caught.value)


GOOD = result(0, 1)
BAD = {
    "null": (None, "entry 1: it is null, not an object"),
    "a list": ([1], "entry 1: it is a list, not an object"),
    "no score": ({k: v for k, v in GOOD.items() if k != "score"}, "entry 1: it has no score"),
    "a box": ({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}, "boxes alone can't be"),
    "image unknown": (GOOD | {"image_id": 9}, "entry 1: it is about image 9, which isn't in the"),
    "image null": (GOOD | {"image_id": None}, "entry 1: image_id is null"),
    "image float": (GOOD | {"image_id": 1.0}, "entry 1: image_id is 1.0"),
    "image true": (GOOD | {"image_id": True}, "entry 1: image_id is true"),
    "image a list": (GOOD | {"image_id": [1]}, "entry 1: image_id is a list"),
    "category null": (GOOD | {"category_id": None}, "entry 1: category_id is null"),
    "category text": (GOOD | {"category_id": "1"}, "entry 1: category_id is the text '1'"),
    "category float": (GOOD | {"category_id": 1.5}, "entry 1: category_id is 1.5"),
    "category huge": (GOOD | {"category_id": 10**30}, "entry 1: category_id is 1000"),
    "category unknown": (
        GOOD | {"category_id": 0},
        r"image 1: the category ids \[0\] aren't",
    ),
    "score null": (GOOD | {"score": None}, "entry 1: score is null; it must be a finite number"),
    "score text": (GOOD | {"score": "0.9"}, "entry 1: score is the text '0.9'"),
    "score nan": (GOOD | {"score": math.nan}, "entry 1: score is nan"),
    "score infinite": (GOOD | {"score": -math.inf}, "entry 1: score is -inf"),
    "score true": (GOOD | {"score": True}, "entry 1: score is true"),
    "score beyond floats": (GOOD | {"score": 10**400}, "entry 1: score is 1000"),
    "mask null": (GOOD | {"segmentation": None}, "entry 1: it is null, but segmentation is a list"),
    "mask of another size": (
        GOOD | {"segmentation": encode_rle(MASKS[0].T)},
        r"entry 1: a mask's size is \[96, 64\], the image's \[64, 96\]",
    ),
    "mask cut": (
        GOOD | {"segmentation": {"size": [64, 96], "counts": encode_rle(MASKS[0])["counts"][:-1]}},
        "entry 1: the (run lengths add up|counts are broken)",
    ),
    "mask as bytes": (
        GOOD | {"segmentation": {"size": [64, 96], "counts": "b'U<d0'"}},
        "entry 1: the counts begin with b'",
    ),
    "mask of plain counts": (
        GOOD | {"segmentation": {"size": [64, 96], "counts": [1, 2]}},
        "entry 1: the run lengths add up to 3 pixels",
    ),
    "polygon with nan": (
        GOOD | {"segmentation": [[math.nan, 1, 2, 3, 4, 5]]},
        "entry 1: a coordinate is nan",
    ),
    "polygon far away": (
        GOOD | {"segmentation": [[1e9, 1, 2, 3, 4, 5]]},
        "entry 1: it reaches from x = 2 to 1000000000.0",
    ),
    "polygon of two points": (GOOD | {"segmentation": [[1, 2, 3, 4]]}, "a polygon has 4 numbers"),
}


def listed(*files, size=SIZE):
    height, width = size
    return [
        {"id": k, "file_name": file, "height": height, "width": width}
        for k, file in enumerate(files)
    ]


def classes(k):
    """Category ids of every pixel of image k; within its object, the right one."""
    return np.where(MASKS[k], k % 2 + 1, 2 - k % 2)


def save_maps(folder, names):
    folder.mkdir(parents=True)
    for k, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(classes(k).astype(np.uint16 if k else np.uint8)).save(path)
    return folder
