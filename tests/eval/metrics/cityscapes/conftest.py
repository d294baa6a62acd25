"""What tests of instance AP share: golden scenes, and scenes made by hand."""

import itertools
from dataclasses import dataclass

import numpy as np
from m2f_jax.eval import CityscapesInstanceAP

from tests.conftest import GOLDEN

CLASSES = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
CAR = CLASSES.index("car")
ROAD = 7


@dataclass
class Image:
    instance_ids: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    distances: dict | None = None

    def add_to(self, metric, **kwargs):
        metric.add(
            self.instance_ids,
            self.masks,
            self.labels,
            self.scores,
            distances=self.distances,
            **kwargs,
        )


@dataclass
class GoldenScene:
    images: list[Image]
    ap_matrix: np.ndarray
    averages: np.ndarray
    official_fails: bool


def load_golden():
    """Random scenes of one to three images of 64 x 96, and what the official script says of them.

    The script is cityscapesScripts 2.3.0, untouched, with numpy 1.26.4 on x86-64 (AVX-512), called
    as its `evaluateImgLists` on PNG and text files written for the purpose, with a new cache file
    each time. Scenes hold void, groups, small objects, caravans, several classes, and predictions
    that are perfect, shifted, doubled, of wrong classes, random, empty, of labels that aren't
    evaluated, of exactly 9/20 to 20/20 of an object, and with as much on void or a group; scores
    come in ties and may be negative or infinite. `distances` went into the script's
    gtInstances.json, with distanceAvailable on. Where the script fails (`official_fails`, an
    IndexError), the numbers are those of the script with `yTrueSortedCumsum[-1]` replaced by 0 for
    an empty curve. `dots` are what numpy.dot gave on that machine; see `same_dot_products`.
    """
    arrays = dict(np.load(GOLDEN / "cityscapes_ap.npz"))
    height, width = arrays["instance_ids"].shape[1:]
    masks = np.unpackbits(arrays["packed_masks"], axis=-1, count=width).view(bool)
    ends = np.cumsum(arrays["masks_per_image"])
    assert masks.shape == (ends[-1], height, width)
    images = []
    for i, (end, count) in enumerate(zip(ends, arrays["masks_per_image"], strict=True)):
        which = slice(end - count, end)
        rows = arrays["distances"][arrays["distances"][:, 0] == i]
        images.append(
            Image(
                arrays["instance_ids"][i],
                masks[which],
                arrays["labels"][which],
                arrays["scores"][which],
                {int(id_): (metres, confidence) for _, id_, metres, confidence in rows},
            )
        )
    scenes = []
    images = iter(images)
    for i, count in enumerate(arrays["images_per_scene"]):
        scene = list(itertools.islice(images, int(count)))
        if not arrays["has_distances"][i]:
            for image in scene:
                image.distances = None
        scenes.append(
            GoldenScene(
                scene,
                arrays["ap_matrix"][i],
                arrays["averages"][i],
                bool(arrays["official_fails"][i]),
            )
        )
    return scenes, arrays["dots"]


def same_dot_products(dots):
    """Whether this machine adds up products in the order of the one that made the golden data.

    The official script leaves its last sum to `np.dot`, whose order depends on the processor: the
    last bit of its own results does, too.
    """
    i = np.arange(1, 2081)
    a, b = i * 7919 % 1009 / 1009, i * 104729 % 997 / 997
    ends = np.cumsum(np.arange(1, 65))
    pieces = [slice(end - n, end) for n, end in enumerate(ends, start=1)]
    return all(np.dot(a[p], b[p]) == dot for p, dot in zip(pieces, dots, strict=True))


def assert_same_numbers(got, want, exact):
    if exact:
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * np.finfo(float).eps)


def ids_of(*cells):
    """An image of ten rows whose cells, ten pixels wide, have these ids."""
    return np.repeat(np.array([cells]), 10, axis=0).repeat(10, axis=1)


def masks_of(ids, *columns):
    """Masks from (first, last) columns of pixels, last not included."""
    masks = np.zeros((len(columns), *ids.shape), bool)
    for mask, (first, last) in zip(masks, columns, strict=True):
        mask[:, first:last] = True
    return masks


def evaluate(ids, columns, scores, labels=None, **kwargs):
    metric = CityscapesInstanceAP()
    labels = [26] * len(columns) if labels is None else labels
    metric.add(ids, masks_of(ids, *columns), labels, scores, **kwargs)
    return metric.result()
