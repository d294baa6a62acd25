"""Images far larger than a model was trained on: cut into overlapping tiles, and joined again.

Semantic maps take each pixel from the tile whose centre is nearest. Parts of an instance in several
tiles are joined where they agree in the tiles' overlap. An object that is much wider than the
overlap, and that two tiles segment differently there, stays in parts.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from m2f_jax.config import Task
from m2f_jax.images import ImageSource, read_image
from m2f_jax.inference.prefetching import Pending, run_pipeline
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.masks.boxes import unpack_window
from m2f_jax.sizes import Size

AGREEMENT = 0.5  # parts are joined above this intersection over union in the tiles' overlap
FRAGMENT = 0.5  # a part that lies in the overlap, with more of it inside a larger one, is left out


class Window(NamedTuple):
    """A rectangle of pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def __and__(self, other: "Window") -> "Window":
        return Window(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def __bool__(self) -> bool:
        return self.top < self.bottom and self.left < self.right


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image that is segmented by itself.

    Attributes:
        window: its pixels.
        nearest: those of them that are nearer to its centre than to any other tile's.
    """

    window: Window
    nearest: Window


def starts_of(length: int, tile: int, overlap: int) -> list[int]:
    """Returns where the tiles along a side begin: evenly spaced, `overlap` or more in common."""
    count = max(1, -(-(length - overlap) // (tile - overlap)))
    return [i * max(length - tile, 0) // max(count - 1, 1) for i in range(count)]


def tiles_of(size: Size, tile: int, overlap: int) -> list[Tile]:
    """Returns the tiles of an image, in rows; all are of one size.

    Args:
        size: height and width of the image.
        tile: the side of a tile; the image's own side where that is shorter.
        overlap: the least number of pixels that neighbours have in common, along each side.
    """

    def along(length: int) -> list[tuple[int, int, int, int]]:
        starts = starts_of(length, tile, overlap)
        ends = [start + min(tile, length) for start in starts]
        cuts = [(end + start) // 2 for end, start in zip(ends, starts[1:], strict=False)]
        return list(zip(starts, ends, [0, *cuts], [*cuts, length], strict=True))

    return [
        Tile(Window(top, left, bottom, right), Window(from_top, from_left, to_bottom, to_right))
        for top, bottom, from_top, to_bottom in along(size[0])
        for left, right, from_left, to_right in along(size[1])
    ]


@dataclass(frozen=True, eq=False)
class Part:
    """The part of an instance that lies in one tile.

    Attributes:
        tile: the window of the tile.
        box: the window of the part, in the image.
        packed: its mask within the box, eight pixels to a byte of a row.
        label: the class index.
        query: the index of the query behind it.
        score: confidence, 0 to 1.
    """

    tile: Window
    box: Window
    packed: UInt8[np.ndarray, "height bytes"]
    label: int
    query: int
    score: float

    def mask(self, window: Window) -> Bool[np.ndarray, "height width"]:
        """Returns the mask within a window of the image."""
        mask = np.zeros((window.bottom - window.top, window.right - window.left), bool)
        if shared := self.box & window:
            own = unpack_window(self.packed, *within(shared, self.box))
            mask[within(shared, window).slices] = own
        return mask


def within(window: Window, other: Window) -> Window:
    """Returns a window in the coordinates of another one."""
    return Window(
        window.top - other.top,
        window.left - other.left,
        window.bottom - other.top,
        window.right - other.left,
    )


def parts_of(found: InstanceSegmentation, tile: Window) -> list[Part]:
    """Returns the instances of a tile that have a pixel."""
    parts = []
    for i, packed in enumerate(found.packed_masks):
        left, top, right, bottom = map(int, found.boxes[i])
        if top == bottom:
            continue
        mask = np.packbits(unpack_window(packed, top, left, bottom, right), axis=-1)
        box = Window(tile.top + top, tile.left + left, tile.top + bottom, tile.left + right)
        label, query, score = found.labels[i], found.queries[i], found.scores[i]
        parts.append(Part(tile, box, mask, int(label), int(query), float(score)))
    return parts


def join_parts(tiles: Sequence[Sequence[Part]]) -> list[list[Part]]:
    """Groups the parts of all tiles by instance.

    Of two tiles that overlap, each part is joined with at most one of the other: the one of its
    class that it agrees with best in the overlap. A part is left out as a fragment if it lies in
    the overlap alone, mostly inside a part of its class that extends beyond the overlap.

    Args:
        tiles: the parts in each tile.

    Returns:
        The parts of each instance.
    """
    groups = {part: [part] for part in itertools.chain(*tiles)}
    fragments: set[Part] = set()
    for ours, theirs in itertools.combinations([parts for parts in tiles if parts], 2):
        shared = ours[0].tile & theirs[0].tile
        if not shared:
            continue
        pairs, inside = compare(ours, theirs, shared)
        matched: set[Part] = set()
        for _, _, part, other in sorted(pairs, key=lambda pair: pair[:2], reverse=True):
            if matched.isdisjoint((part, other)):
                matched |= {part, other}
                if groups[part] is not groups[other]:
                    groups[part] += groups[other]
                    groups.update(dict.fromkeys(groups[other], groups[part]))
        fragments |= inside - matched
    joined = {id(group): group for group in groups.values()}.values()
    return [group for group in joined if not fragments.issuperset(group)]


def compare(
    ours: Sequence[Part], theirs: Sequence[Part], shared: Window
) -> tuple[list[tuple[float, float, Part, Part]], set[Part]]:
    """Compares the parts of two tiles within their overlap, the window `shared`.

    Returns:
        The pairs that agree, each after its intersection over union and the sum of its scores; and
        the fragments, see `join_parts`.
    """
    masks = [[(x, x.mask(shared)) for x in parts if x.box & shared] for parts in (ours, theirs)]
    pairs, fragments = [], set()
    for (part, mask), (other, other_mask) in itertools.product(*masks):
        if part.label != other.label:
            continue
        common = np.count_nonzero(mask & other_mask)
        area, other_area = np.count_nonzero(mask), np.count_nonzero(other_mask)
        if common > AGREEMENT * (area + other_area - common):
            agreement = common / (area + other_area - common)
            pairs.append((agreement, part.score + other.score, part, other))
        for small, its_area, large in ((part, area, other), (other, other_area, part)):
            only_there = small.box & shared == small.box and large.box & shared != large.box
            if only_there and common > FRAGMENT * its_area:
                fragments.add(small)
    return pairs, fragments


@dataclass(frozen=True, eq=False)
class JoinedMasks(Sequence):
    """The packed masks of joined instances; each is made when it is accessed."""

    groups: Sequence[Sequence[Part]]
    size: Size

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return JoinedMasks(self.groups[index], self.size)
        height, width = self.size
        packed = np.zeros((height, -(-width // 8)), np.uint8)
        for part in self.groups[index]:
            top, left, bottom, right = part.box
            left -= left % 8
            mask = part.mask(Window(top, left, bottom, right))
            packed[top:bottom, left // 8 : -(-right // 8)] |= np.packbits(mask, axis=-1)
        return packed


def joined(
    tiles: Sequence[Sequence[Part]], size: Size, threshold: float | None
) -> InstanceSegmentation:
    """Returns the instances of an image from those of its tiles; a score is the best of its parts.

    Args:
        tiles: the parts in each tile.
        size: height and width of the image.
        threshold: the least score of an instance, if any.
    """
    groups = [sorted(group, key=lambda part: -part.score) for group in join_parts(tiles)]
    groups.sort(key=lambda group: -group[0].score)
    best = [group[0] for group in groups if threshold is None or group[0].score >= threshold]
    return InstanceSegmentation(
        scores=np.array([part.score for part in best], np.float32),
        labels=np.array([part.label for part in best], np.int32),
        queries=np.array([part.query for part in best], np.int32),
        size=size,
        packed_masks=JoinedMasks(groups[: len(best)], size),
    )


def check_task(task: Task):
    """Refuses a task whose results can't be joined from tiles.

    Raises:
        ValueError: it is "panoptic".
    """
    if task == "panoptic":
        raise ValueError(
            "panoptic segmentations aren't put together from tiles; choose --task instance or "
            "semantic, or leave the tiles out"
        )


class TiledInput(NamedTuple):
    """An image that will be cut into tiles."""

    pixels: UInt8[np.ndarray, "height width 3"]
    bucket: None = None  # one at a time


@dataclass(frozen=True, eq=False)
class TiledSegmenter:
    """A segmenter that cuts images into tiles, for instances and semantic maps.

    Each tile is an image to the segmenter inside, whose processor should keep its size. With the
    image's size grow its pixels, its semantic map and the instances' masks within their boxes;
    masks of the whole image are made one at a time.

    Attributes:
        segmenter: segments the tiles: a `Segmenter`, or anything with its `prepare` and `submit`.
        tile: the side of a tile in pixels.
        overlap: the least number of pixels that neighbours have in common; about the width of an
            object, so that some tile shows each seam's objects whole.

    Raises:
        ValueError: the overlap is more than half of a tile, or negative.
    """

    segmenter: Any
    tile: int = 1024
    overlap: int = 128

    def __post_init__(self):
        if not 0 <= 2 * self.overlap <= self.tile or self.tile < 1:
            raise ValueError(
                f"tiles of {self.tile} pixels can't overlap by {self.overlap}; take 0 to half of "
                "a tile"
            )

    @property
    def capacity(self) -> int:
        """The number of images that `submit` takes at a time."""
        return 1

    @property
    def task(self) -> Task:
        """What the model was trained for."""
        return self.segmenter.config.task

    def prepare(self, image: ImageSource) -> TiledInput:
        """Reads an image on the host; may run in a thread of its own."""
        return TiledInput(read_image(image))

    def submit(
        self, batch: Sequence[TiledInput], task: Task | None = None, **options: Any
    ) -> list[Pending]:
        """Returns a handle for each image, whose `result` segments it; arguments as when called."""
        return [
            Pending(functools.partial(self.segment, image.pixels, task, **options))
            for image in batch
        ]

    def __call__(
        self, image: ImageSource, task: Task | None = None, **options: Any
    ) -> InstanceSegmentation | Int[np.ndarray, "height width"]:
        """Segments one image: a path, a PIL image or uint8 [height, width, 3].

        Args:
            image: the image.
            task: "instance" or "semantic"; by default what the model was trained for.
            options: `threshold`, the least score of an instance, half of which is enough for its
                parts; and other options of the segmenter, for each tile.

        Raises:
            ValueError: the task is "panoptic", or the image can't be read.
            FileNotFoundError: the image file is missing.
        """
        return self.segment(read_image(image), task, **options)

    def segment(
        self,
        pixels: UInt8[np.ndarray, "height width 3"],
        task: Task | None = None,
        *,
        threshold: float | None = None,
        **options: Any,
    ) -> InstanceSegmentation | Int[np.ndarray, "height width"]:
        """Segments pixels; as when called."""
        task = task or self.task
        check_task(task)
        size = pixels.shape[0], pixels.shape[1]
        tiles = tiles_of(size, self.tile, self.overlap)
        if task == "instance":
            options["threshold"] = None if threshold is None else threshold / 2
        found = self.run(pixels, tiles, task, options)
        if task == "instance":
            parts = [parts_of(result, tile.window) for tile, result in found]
            return joined(parts, size, threshold)
        whole = np.zeros(size, np.int32)
        for tile, result in found:
            whole[tile.nearest.slices] = result[within(tile.nearest, tile.window).slices]
        return whole

    def run(
        self,
        pixels: np.ndarray,
        tiles: Sequence[Tile],
        task: Task | None,
        options: Mapping[str, Any],
    ) -> Iterator[tuple[Tile, Any]]:
        """Yields each tile with its segmentation."""
        outcomes = run_pipeline(
            self.segmenter,
            task,
            tiles,
            lambda tile: (self.segmenter.prepare(pixels[tile.window.slices]), None),
            lambda _tile, _none, segmentation: segmentation,
            **options,
        )
        for tile, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield tile, outcome
