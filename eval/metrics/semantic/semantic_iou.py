"""Mean intersection over union of classes, equal to Cityscapes' official pixel-level script.

What every image adds is kept as integers: one table of ground truth against prediction, the right
and wrong pixels of each image's classes, and for Cityscapes the pixels of every object, from which
the instance-level score (iIoU) is computed. `result` puts the images into one order and only then
divides, so that neither the order in which they came nor how they were spread over processes can
change a bit.

Axes: K classes, with those that aren't evaluated; rows of a table are ground truth.
"""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Integer, Shaped

from m2f_jax.labels import CITYSCAPES, Label, numbered

from ..array_files import save_arrays, saved_arrays
from ..cityscapes.ids import (
    CITYSCAPES_CLASSES,
    LARGEST_INSTANCE_ID,
    TRAIN_IDS_MESSAGE,
    SemanticClass,
    count_objects,
    refuse_train_ids,
)
from ..pixel_runs import counts, runs_of
from .scores import CountedImage, SemanticIoUResult, class_areas, scores_of

LARGEST_VALUE = 2**16 - 1  # of a pixel
FORMAT = "SemanticIoU 2"  # what a file holds, and the version of its layout


class SemanticIoU:
    """IoU over any number of images: `add` each one, then ask for the `result`.

    `SemanticIoU()` takes label ids of Cityscapes and gives the fractions of cityscapesScripts'
    `evalPixelLevelSemanticLabeling`, to the last bit if that takes images in the order of names.
    `SemanticIoU(ADE20K)` and `SemanticIoU(21, ignore=255)` take classes numbered from 0, by the
    same rules: a class that was only predicted has the IoU 0; one that is nowhere has NaN, and no
    mean contains it.
    """

    def __init__(self, classes: Sequence[Label] | int | None = None, *, ignore: int = 255):
        """An empty metric.

        Args:
            classes: the classes in the order of their numbers, from 0, or how many there are;
                None for the label ids of Cityscapes.
            ignore: with `classes`, the value of pixels that have none. In the ground truth they
                are left out; predicted, they are misses.

        Raises:
            ValueError: `ignore` is also the number of a class, or two classes share a name.
        """
        labels = numbered(classes) if isinstance(classes, int) else classes
        self._labels = None if labels is None else tuple(label.name for label in labels)
        self._ignore = ignore
        self.classes = CITYSCAPES_CLASSES
        values = list(range(len(self.classes)))
        if self._labels is not None:
            rows = tuple(SemanticClass(name=name) for name in self._labels)
            self.classes = (*rows, SemanticClass(name="ignored", evaluated=False))
            values = [*range(len(rows)), ignore]
            if len(set(self._labels)) < len(rows):
                raise ValueError(f"several classes share a name: {self._labels}")
            if not len(rows) <= ignore <= LARGEST_VALUE:
                raise ValueError(
                    f"ignore is {ignore}, which must be above the classes, 0 to {len(rows) - 1}, "
                    f"and at most {LARGEST_VALUE}"
                )
        # From pixel value to row of the table; the row after the last is for all other values.
        self._rows = np.full(LARGEST_VALUE + 1, len(values), np.intp)
        self._rows[values] = np.arange(len(values))
        self._confusion = np.zeros((len(values), len(values)), np.int64)
        self._images: list[CountedImage] = []
        self._names: set[str] = set()
        self._with_objects: bool | None = None  # of every image; None before the first

    def __len__(self) -> int:
        return len(self._images)

    @property
    def images(self) -> Sequence[CountedImage]:
        """What was counted in each image, as they came."""
        return self._images

    def add(
        self,
        label_ids: Shaped[np.ndarray, "..."],
        prediction: Shaped[np.ndarray, "..."],
        instance_ids: Shaped[np.ndarray, "..."] | None = None,
        image: str = "",
    ):
        """Compares one image's prediction with its ground truth; whole numbers [height, width].

        Args:
            label_ids: the ground truth; for Cityscapes the values of a `*_gtFine_labelIds.png`.
            prediction: the predicted classes, in the same numbers and size.
            instance_ids: for Cityscapes, the values of a `*_gtFine_instanceIds.png`, for all
                images or none; only with them are there instance-level scores.
            image: the image's name, for messages and so that no image is added twice; may be
                left out.

        Raises:
            ValueError: the image was added before, the maps aren't whole numbers of one size, or
                they hold values that are no class, such as train ids in place of label ids.
        """
        where = "" if image == "" else f"image {image}: "
        maps = {"ground truth": label_ids, "prediction": prediction}
        if instance_ids is not None:
            maps["instance ids"] = instance_ids
        _check_maps(maps, where)
        lengths, values = runs_of(*maps.values())
        rows, columns = (self._rows[value] for value in values[:2])
        side = len(self.classes) + 1
        table = counts(rows * side + columns, lengths, (side, side))
        for name, others in (("ground truth", table[-1]), ("prediction", table[:, -1])):
            if others.any():
                self._refuse_values(maps[name], f"{where}the {name}")
        table = table[:-1, :-1]
        if self._labels is None:
            refuse_train_ids(table, f"{where}the prediction")
        elif instance_ids is not None:
            raise ValueError(f"{where}instance ids are for Cityscapes' label ids only")
        objects = ()
        if instance_ids is not None:
            objects = count_objects(values[2], columns, lengths, where)
        counted = CountedImage(image, objects, class_areas(self.classes, table))
        self._extend(table, [counted], instance_ids is not None)

    def merge(self, other: "SemanticIoU"):
        """Takes over the images of another metric, such as another process's.

        Raises:
            ValueError: the classes differ, an image is in both, or one metric's images have
                instance ids and the other's haven't.
        """
        if (self._labels, self._ignore) != (other._labels, other._ignore):
            raise ValueError("the metrics have different classes and can't be merged")
        self._extend(other._confusion, other._images, other._with_objects)

    def result(self) -> SemanticIoUResult:
        """Computes the scores over all images so far."""
        images = self._images if self._with_objects else None
        return scores_of(self.classes, self._confusion.copy(), images)

    def save(self, path: str | os.PathLike):
        """Writes everything into one .npz file, which is complete or not there at all."""
        images = sorted(self._images)
        objects = [(k, *row) for k, counts in enumerate(images) for row in counts.objects]
        areas = [(k, *row) for k, counts in enumerate(images) for row in counts.areas]
        save_arrays(
            path,
            FORMAT,
            labels=np.array(self._labels or (), str),
            ignore=-1 if self._labels is None else self._ignore,
            confusion=self._confusion,
            with_objects=-1 if self._with_objects is None else int(self._with_objects),
            images=np.array([counts.image for counts in images], str),
            objects=np.array(objects, np.int64).reshape(-1, 5),
            areas=np.array(areas, np.int64).reshape(-1, 5),
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SemanticIoU":
        """Reads what `save` wrote; a ValueError if the file is broken or of another kind."""
        with saved_arrays(path, FORMAT) as saved:
            metric = cls()
            if saved["ignore"] >= 0:
                names = enumerate(saved["labels"].tolist())
                labels = [Label(id=k, name=name, is_thing=False) for k, name in names]
                metric = cls(labels, ignore=int(saved["ignore"]))
            rows = {}
            for name in ("objects", "areas"):
                rows[name] = [[] for _ in saved["images"]]
                for k, *row in saved[name].tolist():
                    rows[name][k].append(tuple(row))
            columns = (map(tuple, rows[name]) for name in ("objects", "areas"))
            images = map(CountedImage, saved["images"].tolist(), *columns)
            with_objects = {-1: None, 0: False, 1: True}[int(saved["with_objects"])]
            metric._extend(saved["confusion"], list(images), with_objects)
        return metric

    def _extend(
        self,
        confusion: Int[np.ndarray, "K K"],
        images: Sequence[CountedImage],
        with_objects: bool | None,
    ):
        """Takes over images, all or none of which have instance ids, unless one is there twice."""
        if {self._with_objects, with_objects} == {True, False}:
            raise ValueError("give instance ids for every image or for none; some here have none")
        names = {counts.image for counts in images} - {""}
        if doubled := sorted(names & self._names):
            raise ValueError(f"the images {doubled[:5]} were added already; add every image once")
        self._confusion += confusion
        self._images += images
        self._names |= names
        if with_objects is not None:
            self._with_objects = with_objects

    def _refuse_values(self, values: Integer[np.ndarray, "height width"], side: str):
        """Names the values that are no class, and what they probably are."""
        present = np.unique(values)
        bad = present[self._rows[present] == len(self.classes)].tolist()
        if self._labels is not None:
            raise ValueError(
                f"{side} has the values {bad[:10]}; classes go from 0 to {len(self._labels) - 1}, "
                f"and pixels without one have {self._ignore}"
            )
        if set(present.tolist()) <= {*range(len(CITYSCAPES)), 255}:
            raise ValueError(f"{side} has the value 255 and none above 18: {TRAIN_IDS_MESSAGE}")
        raise ValueError(
            f"{side} has the values {bad[:10]}, but label ids end at {len(self.classes) - 1}; "
            "pixels without a class are 0"
        )


def _check_maps(maps: dict[str, Shaped[np.ndarray, "..."]], where: str):
    size = maps["ground truth"].shape
    for name, values in maps.items():
        if values.ndim != 2 or values.dtype.kind not in "iu":
            raise ValueError(
                f"{where}for the {name}, whole numbers [height, width] are needed, not "
                f"{values.dtype} of the shape {values.shape}"
            )
        if values.shape != size:
            raise ValueError(
                f"{where}the size of the {name} is {values.shape}, that of the ground truth {size};"
                " bring it to the size of the ground truth"
            )
        largest = LARGEST_INSTANCE_ID if name == "instance ids" else LARGEST_VALUE
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if low < 0 or high > largest:
            raise ValueError(
                f"{where}the values of the {name} go from {low} to {high}, beyond 0 to {largest}"
            )
