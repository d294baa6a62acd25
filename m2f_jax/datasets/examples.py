"""A training example: an image with its segments.

The segments of an image are kept as regions: every pixel has the number of one region, and a table
says which segments a region is part of. So a crop or a resize handles one map, however many
segments there are, and segments may overlap.

Axes: N segments, R regions.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer, UInt8


class Segments(NamedTuple):
    """The segments of one image; region 0 is part of none of them."""

    regions: Int32[np.ndarray, "height width"]
    members: Bool[np.ndarray, "N R"]
    labels: Int32[np.ndarray, "N"]  # class indices

    @classmethod
    def from_ids(
        cls,
        ids: Integer[np.ndarray, "height width"],
        segment_of: Callable[[int], tuple[int, Hashable] | None],
    ) -> "Segments":
        """Makes segments that don't overlap, from a map of ids.

        Args:
            ids: with at least one pixel.
            segment_of: maps an id to its segment: a class index, and a key that differs between
                segments of the class; None for pixels without a segment.
        """
        # Neighbouring pixels mostly have the same id, so ids are looked up once per run of them.
        flat = ids.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        present, of_run = np.unique(flat[starts], return_inverse=True)
        numbers: dict[tuple[int, Hashable], int] = {}  # region by segment
        table = np.zeros(len(present), np.int32)
        for i, id_ in enumerate(present.tolist()):
            if (segment := segment_of(id_)) is not None:
                table[i] = numbers.setdefault(segment, len(numbers) + 1)
        lengths = np.diff(starts, append=len(flat))
        regions = np.repeat(table[of_run], lengths).reshape(ids.shape)
        members = np.eye(len(numbers), len(numbers) + 1, 1, dtype=bool)
        return cls(regions, members, np.array([label for label, _ in numbers], np.int32))

    @classmethod
    def from_masks(
        cls,
        masks: Iterable[Bool[np.ndarray, "height width"]],
        labels: Int32[np.ndarray, "N"],
        size: tuple[int, int],
    ) -> "Segments":
        """Makes segments that may overlap, from the mask and the class index of each."""
        regions = np.zeros(size, np.int32)
        owners: list[tuple[int, ...]] = [()]  # of each region
        for k, mask in enumerate(masks):
            below = regions[mask]
            covered, inverse = np.unique(below, return_inverse=True)
            regions[mask] = len(owners) + inverse
            owners += [(*owners[region], k) for region in covered.tolist()]
        visible = np.union1d(0, regions)  # the others have no pixels left, after later masks
        table = np.zeros(len(owners), np.int32)
        table[visible] = np.arange(len(visible))
        members = np.zeros((len(labels), len(visible)), bool)
        for column, region in enumerate(visible.tolist()):
            members[list(owners[region]), column] = True
        return cls(table[regions], members, labels)

    @property
    def areas(self) -> Int[np.ndarray, "N"]:
        """The number of pixels of each segment."""
        return self.members @ np.bincount(self.regions.ravel(), minlength=self.members.shape[1])

    @property
    def visible(self) -> Bool[np.ndarray, "N"]:
        """Whether each segment has a pixel; an outline may be thinner than one."""
        return self.members.sum(axis=1) > 0

    @property
    def overlap(self) -> bool:
        """Whether a pixel is in two segments."""
        return bool((self.members.sum(axis=0) > 1).any())

    def class_map(self, nothing: int) -> Int32[np.ndarray, "height width"]:
        """Returns the class index of every pixel; `nothing` where it has no class, or several."""
        count = int(self.labels.max(initial=-1)) + 1
        of_class = np.zeros((count, self.members.shape[1]), bool)
        np.logical_or.at(of_class, self.labels, self.members)
        classes = np.full(self.members.shape[1], nothing, np.int32)
        known = of_class.sum(axis=0) == 1
        classes[known] = of_class[:, known].argmax(axis=0) if count else nothing
        return classes[self.regions]

    @property
    def masks(self) -> Bool[np.ndarray, "N height width"]:
        """The mask of each segment."""
        return self.members[:, self.regions]


class Example(NamedTuple):
    """An image to learn from, and the segments in it."""

    image: UInt8[np.ndarray, "height width 3"]
    segments: Segments
