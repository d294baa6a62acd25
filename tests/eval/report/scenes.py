"""Small scenes with known faults, of streets and in COCO's format."""

import dataclasses
from pathlib import Path

import numpy as np
from m2f_jax.eval.predictions.files import InstancePrediction
from PIL import Image

from m2f_jax.datasets.dataset import CityscapesTruth
from m2f_jax.labels import CITYSCAPES
from m2f_jax.masks.rle import encode_rle

PERSON, CAR = 24, 26


def squares(*instance_ids):
    """A map with a square of 20 x 20 pixels for each id."""
    canvas = np.full((64, 256), 7, np.int32)
    for i, instance_id in enumerate(instance_ids):
        canvas[10:30, 10 + 40 * i : 30 + 40 * i] = instance_id
    return canvas


def coco_content(masks, crowds=(0, 0)):
    """Cars in one image."""
    objects = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "segmentation": encode_rle(mask),
            "area": int(mask.sum()),
            "iscrowd": crowd,
        }
        for i, (mask, crowd) in enumerate(zip(masks, crowds, strict=True), 1)
    ]
    return {
        "images": [{"id": 1, "file_name": "1.png", "height": 64, "width": 256}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
        "annotations": objects,
    }


@dataclasses.dataclass(frozen=True)
class OneImage:
    """A data set of an image."""

    image: Path
    categories: tuple
    truth: object
    rules: str = "coco"
    name, id, title, task = "1", 1, "one image", "instance"

    @property
    def images(self):
        return [self]

    labels = property(lambda self: self.categories)

    def ground_truth(self, _index, _task):
        return self.truth

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise AssertionError

    check = files = __getitem__


def drawn_file(path, size=(64, 256)):
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)
    return path


def cityscapes_scene(folder, encoded):
    """A street with each fault: its data set and its prediction."""
    truth = squares(26001, 24001, 26002, 24002, 26003)
    truth[40:60, 10:30] = 24  # a group of persons
    truth[62:, 200:204] = 26009  # too small to count
    half = np.roll(truth == 26002, 9, axis=1)  # an overlap of 11 / 29
    masks = {
        "car 0.95": truth == 26001,
        "car 0.94": truth == 26001,
        "truck 0.90": truth == 24001,
        "car 0.80": half,
        "bus 0.70": np.roll(truth == 24002, 9, axis=1),
        "person 0.65": truth == 24,
        "person 0.10": truth == 24002,
        "bicycle 0.60": np.roll(truth == 26001, 30, axis=0),
        "car 0.40": truth == 26003,
    }
    ids = {"car": 26, "truck": 27, "bus": 28, "person": 24, "bicycle": 33}
    labels = np.array([ids[name.split()[0]] for name in masks])
    scores = np.array([float(name.split()[1]) for name in masks])
    found = list(masks.values())
    image, ground_truth = drawn_file(folder / "image.png"), CityscapesTruth(truth, None)
    return OneImage(image, CITYSCAPES, ground_truth, "cityscapes"), InstancePrediction(
        list(map(encode_rle, found)) if encoded else np.stack(found), labels, scores
    )
