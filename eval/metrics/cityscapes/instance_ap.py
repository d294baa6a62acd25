"""Average precision of instances as the Cityscapes benchmark defines it, to the last bit.

Per image, only a small table of integers is kept: how many pixels each prediction shares with each
region of the ground truth. One evaluation at the end turns the tables into numbers. The counting is
in `region_tables`, what is kept in `image_tables`, the rules in `matching`, and what else the
result tells in `report_data`.

Axes: P predictions, R regions.
"""

import contextlib
import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .image_tables import (
    CLASSES,
    EMPTY,
    Distances,
    ImageTable,
    check_counts,
    check_predictions,
    load_tables,
    save_tables,
)
from .instance_ap_result import InstanceAPResult
from .matching import (
    OVERLAPS,
    Counted,
    Matches,
    Pool,
    average_precisions,
    match,
    only_ignored,
)
from .region_tables import FIRST_INSTANCE, KNOWN_LABELS, Regions, count_masks, count_rles

VOID_IDS = (-1, 0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
EVERYWHERE = Counted(min_area=100.0)
NEAR = {
    100: Counted(min_area=1000.0, max_distance=100.0, min_confidence=0.5),
    50: Counted(min_area=1000.0, max_distance=50.0, min_confidence=0.5),
}


class CityscapesInstanceAP:
    """Instance AP over any number of images: `add` each one, then ask for the `result`.

    The numbers are those of cityscapesScripts' `evalInstanceLevelSemanticLabeling`, as fractions.
    Nothing depends on the order of images and merges, and nothing is kept outside of the object.
    """

    def __init__(self):
        self._tables: list[ImageTable] = []
        self._names: set[str] = set()

    def __len__(self) -> int:
        return len(self._tables)

    def add(
        self,
        instance_ids: np.ndarray | Regions,
        masks: np.ndarray | Sequence[Any],
        labels: ArrayLike,
        scores: ArrayLike,
        image: str = "",
        distances: Distances | None = None,
    ):
        """Adds the predictions of one image; they may overlap, in any number and order.

        As in the official script, empty masks and labels that aren't evaluated change nothing.

        Args:
            instance_ids: integers [H, W] as in `*_gtFine_instanceIds.png`, or `Regions.of` them.
            masks: bool [P, H, W] or COCO RLEs.
            labels: Cityscapes label ids (24 is a person), not train ids.
            scores: a number for each prediction, in any range.
            image: a name for messages and reports. No name can be added twice, but for "".
            distances: median distance in metres and its confidence by instance id, for the AP
                within 100 m and 50 m, where objects that aren't listed don't count. Either all
                images have distances (perhaps for none of their objects) or no image has.

        Raises:
            ValueError: something doesn't fit; the message names the image. Nothing was added.
        """
        with self._naming(image):
            if not isinstance(instance_ids, Regions):
                instance_ids = Regions.of(np.asarray(instance_ids))
            labels, scores = check_predictions(labels, scores, len(masks))
            if isinstance(masks, Sequence):
                counts = count_rles(masks, instance_ids)
            else:
                counts = count_masks(np.asarray(masks), instance_ids)
            table = ImageTable.of(instance_ids, counts, labels, scores, image, distances)
            self._extend([table])

    def add_table(
        self,
        regions: Regions,
        table: ArrayLike,
        areas: ArrayLike,
        labels: ArrayLike,
        scores: ArrayLike,
        image: str = "",
        distances: Distances | None = None,
    ):
        """Adds one image whose pixels were counted elsewhere, as by `count_on_device`.

        Args:
            regions: the regions of the ground truth.
            table: integers [P, R or more], the pixels that predictions share with regions; columns
                beyond the number of regions mean nothing.
            areas: integers [P], all pixels of each prediction.
            labels: as for `add`.
            scores: as for `add`.
            image: as for `add`.
            distances: as for `add`.

        Raises:
            ValueError: something doesn't fit; the message names the image. Nothing was added.
        """
        with self._naming(image):
            counts = check_counts(table, areas, len(regions))
            labels, scores = check_predictions(labels, scores, len(counts.areas))
            self._extend([ImageTable.of(regions, counts, labels, scores, image, distances)])

    def merge(self, other: "CityscapesInstanceAP"):
        """Adds the images of another, such as another process accumulated.

        Raises:
            ValueError: an image is in both, or only one has distances. Nothing was added.
        """
        self._extend(other._tables)

    def pool(self) -> Pool:
        """Returns the predictions and regions of all images so far, in an order of their own."""
        return pool_of(sorted(self._tables, key=ImageTable.order))

    def result(self) -> InstanceAPResult:
        """Computes the numbers for all images so far.

        Warns where the official script would fail (its issue 89) and AP counts as 0: a class has
        objects and predictions, but every prediction is ignored.
        """
        pool = self.pool()
        matches = match(pool, EVERYWHERE)
        failures = _official_failures(pool, matches, "")
        near = {}
        if any(table.has_distances for table in self._tables):
            for metres, counted in NEAR.items():
                near_matches = match(pool, counted)
                near[metres] = average_precisions(pool, near_matches)
                failures += _official_failures(pool, near_matches, f" within {metres} m")
        if failures:
            warnings.warn(
                "the official script would fail here (its issue 89), as all predictions of a class "
                f"are ignored; these count as 0: {'; '.join(failures)}",
                stacklevel=2,
            )
        return InstanceAPResult(
            pool=pool, matches=matches, ap_matrix=average_precisions(pool, matches), near=near
        )

    def save(self, path: str | os.PathLike):
        """Writes everything to one .npz file, which is complete or not there at all."""
        save_tables(sorted(self._tables, key=ImageTable.order), path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "CityscapesInstanceAP":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is broken, or of another kind or version.
        """
        metric = cls()
        metric._extend(load_tables(path))
        return metric

    def _extend(self, tables: Sequence[ImageTable]):
        for table in tables:
            if table.image in self._names:
                raise ValueError(f"{table.image!r} was added before; every image counts once")
            if self._tables and table.has_distances != self._tables[0].has_distances:
                raise ValueError(
                    f"{table.image!r} has {'' if table.has_distances else 'no '}distances, unlike "
                    "the images before; give them for all images (an empty dict where there are "
                    "none) or for no image"
                )
        self._tables = [*self._tables, *tables]
        self._names |= {table.image for table in tables} - {""}

    @contextlib.contextmanager
    def _naming(self, image: str):
        """Puts the image's name before messages."""
        try:
            yield
        except ValueError as error:
            name = f"image {image}" if image else f"image number {len(self) + 1}"
            raise ValueError(f"{name}: {error}") from error


def _official_failures(pool: Pool, matches: Matches, where: str) -> list[str]:
    """Returns the classes whose predictions are all ignored, and at which overlaps."""
    failures = []
    for name, row in zip(pool.class_names, only_ignored(pool, matches), strict=True):
        overlaps = "every overlap" if row.all() else ", ".join(f"{t:.2f}" for t in OVERLAPS[row])
        if overlaps:
            failures.append(f"{name}{where} at {overlaps}")
    return failures


def pool_of(tables: Sequence[ImageTable]) -> Pool:
    """Returns the regions of evaluated classes and the predictions of all images."""
    class_of_label = np.full(KNOWN_LABELS.stop + 1, -1)  # the last is for the license plate, -1
    class_of_label[[label.id for label in CLASSES]] = range(len(CLASSES))
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    num_regions = num_predictions = 0
    for i, table in enumerate([*tables, EMPTY]):
        is_object = table.ids >= FIRST_INSTANCE
        region_class = class_of_label[np.where(is_object, table.ids // FIRST_INSTANCE, table.ids)]
        kept = region_class >= 0
        shared = table.table[:, kept]
        prediction, region = np.nonzero(shared)
        void = table.table[:, np.isin(table.ids, VOID_IDS)].sum(axis=1, dtype=np.int64)
        for name, values in {
            "region_id": table.ids[kept],
            "region_image": np.full(np.count_nonzero(kept), i),
            "region_class": region_class[kept],
            "region_is_object": is_object[kept],
            "region_areas": table.region_areas[kept],
            "region_distances": table.distances[kept],
            "image": np.full(len(table.labels), i),
            "classes": class_of_label[table.labels],
            "scores": table.scores,
            "areas": table.areas,
            "void": void,
            "pair_prediction": prediction + num_predictions,
            "pair_region": region + num_regions,
            "pair_pixels": shared[prediction, region].astype(np.int64),
        }.items():
            parts[name].append(values)
        num_regions += np.count_nonzero(kept)
        num_predictions += len(table.labels)
    return Pool(
        images=[table.image for table in tables],
        class_names=[label.name for label in CLASSES],
        **{name: np.concatenate(values) for name, values in parts.items()},
    )
