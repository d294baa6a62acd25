"""Random changes to training images: resize, crop, flip and colors, as in the authors' recipes.

All is numpy; every random number comes from the generator that is passed in. Only the part of an
image that the crop needs is resized.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.inference.preprocess import resized_size
from m2f_jax.sizes import Size

GREY = 128
"""The fill value where an image is smaller than its crop (detectron2's FixedSizeCrop)."""

SEXTANT = 30
"""Steps of OpenCV's 8-bit hue between red, yellow, green, cyan, blue, magenta and red again."""

SIDE = Between(1, 65_536)
MAX_CROP_PIXELS = 2**26


def check_ranges(values: Any, *names: str):
    """Refuses numbers out of bounds, and ranges that aren't a least and a greatest number."""
    check_bounds(values)
    for name in names:
        if len(span := getattr(values, name)) != 2 or span[0] > span[1]:
            kind = type(values).__name__
            raise ValueError(f"{kind}: {name} is a least and a greatest number, not {span}")


class Window(NamedTuple):
    """The place of a crop in a resized image.

    Attributes:
        resized: the size of the whole.
        top: the crop's first row, in pixels.
        left: the crop's first column, in pixels.
        most: the crop's size, if it is less than the augmentation's; the rest is filled.
    """

    resized: Size
    top: int
    left: int
    most: Size | None = None


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """A crop at a random place of the image, resized to a random scale.

    It does what detectron2's ResizeShortestEdge and RandomCrop do.

    Attributes:
        shortest_edges: lengths in pixels, one of which the shorter side gets.
        longest_edge: the greatest length of the longer side, which takes precedence.
    """

    shortest_edges: Annotated[tuple[int, ...], SIDE]
    longest_edge: Annotated[int, SIDE]

    def __post_init__(self):
        check_bounds(self)
        if not self.shortest_edges:
            raise ValueError("RandomCrop: shortest_edges is empty; give at least one length")

    def draw(self, image_size: Size, size: Size, rng: np.random.Generator) -> Window:
        """Draws the place of a crop of `size`."""
        edge = self.shortest_edges[rng.integers(len(self.shortest_edges))]
        resized = resized_size(image_size, edge, self.longest_edge)
        top, left = (
            int(rng.integers(max(have - want, 0) + 1))
            for have, want in zip(resized, size, strict=True)
        )
        return Window(resized, top, left)


@dataclass(frozen=True, kw_only=True)
class RandomPart:
    """The whole image or, with probability 1/2, a random part of it; resized to a random scale.

    The recipes of DETR and MaskFormer for COCO do so, but they resize an image twice, not once.

    Attributes:
        shortest_edges: lengths in pixels, one of which the shorter side gets in the end.
        longest_edge: the greatest length of the longer side.
        first_edges: lengths, one of which the shorter side has before a part is taken.
        sides: the least and the greatest side of the part, at that scale.
    """

    shortest_edges: Annotated[tuple[int, ...], SIDE]
    longest_edge: Annotated[int, SIDE]
    first_edges: Annotated[tuple[int, ...], SIDE]
    sides: Annotated[tuple[int, int], SIDE]

    def __post_init__(self):
        check_ranges(self, "sides")
        if not self.shortest_edges or not self.first_edges:
            raise ValueError(
                "RandomPart: shortest_edges and first_edges need at least one length each"
            )

    def draw(self, image_size: Size, size: Size, rng: np.random.Generator) -> Window:
        """Draws the place of a crop of at most `size`."""
        edge = self.shortest_edges[rng.integers(len(self.shortest_edges))]
        if rng.random() < 0.5:
            return Window(resized_size(image_size, edge, self.longest_edge), 0, 0)
        first_edge = self.first_edges[rng.integers(len(self.first_edges))]
        whole = resized_size(image_size, first_edge, None)
        least, greatest = self.sides
        part = [int(rng.integers(min(least, x), min(greatest, x) + 1)) for x in whole]
        corner = [int(rng.integers(x - y + 1)) for x, y in zip(whole, part, strict=True)]
        most = resized_size((part[0], part[1]), edge, self.longest_edge)
        scales = [x / y for x, y in zip(most, part, strict=True)]
        height, width = (round(x * scale) for x, scale in zip(whole, scales, strict=True))
        top, left = (
            min(round(x * scale), side - length)
            for x, scale, side, length in zip(corner, scales, (height, width), most, strict=True)
        )
        visible = min(most[0], size[0]), min(most[1], size[1])
        return Window((height, width), top, left, visible)


@dataclass(frozen=True, kw_only=True)
class LargeScaleJitter:
    """The image resized at random, much smaller or larger (Ghiasi et al., CVPR 2021).

    Attributes:
        scales: the least and the greatest size, in units of the largest that fits into the crop.
    """

    scales: Annotated[tuple[float, float], Between(0.01, 100)]

    def __post_init__(self):
        check_ranges(self, "scales")

    def draw(self, image_size: Size, size: Size, rng: np.random.Generator) -> Window:
        """Draws the place of a crop of `size`, on the line from top left to bottom right.

        Both sides share one random number, as in detectron2's FixedSizeCrop.
        """
        scale = rng.uniform(*self.scales)
        ratio = min(want * scale / have for have, want in zip(image_size, size, strict=True))
        height, width = (max(1, round(have * ratio)) for have in image_size)
        place = rng.uniform()
        top, left = (
            round(max(have - want, 0) * place)
            for have, want in zip((height, width), size, strict=True)
        )
        return Window((height, width), top, left)


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Changes of color, each made with probability 1/2 (Liu et al., SSD, ECCV 2016).

    Brightness comes first, then contrast, saturation and hue, or saturation, hue and contrast.

    Attributes:
        brightness: the most that is added to RGB values of 0 to 255, or subtracted.
        contrast: the least and the greatest factor of RGB values.
        saturation: the least and the greatest factor of the saturation.
        hue: the most that is added to the hue, or subtracted, in OpenCV's steps of 2 degrees.
    """

    brightness: Annotated[float, Between(0, 255)] = 32.0
    contrast: Annotated[tuple[float, float], Between(0, 100)] = (0.5, 1.5)
    saturation: Annotated[tuple[float, float], Between(0, 100)] = (0.5, 1.5)
    hue: Annotated[int, Between(0, 90)] = 18

    def __post_init__(self):
        check_ranges(self, "contrast", "saturation")

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Returns the image in changed colors."""
        brighter, contrast_first, contrasted, saturated, turned = rng.random(5) < 0.5
        added = rng.uniform(-self.brightness, self.brightness) if brighter else 0.0
        contrast = rng.uniform(*self.contrast) if contrasted else 1.0
        saturation = rng.uniform(*self.saturation) if saturated else 1.0
        hue = int(rng.integers(-self.hue, self.hue + 1)) if turned else 0
        image = scale_values(image, 1.0, added)
        if contrast_first:
            return change_colors(scale_values(image, contrast, 0.0), saturation, hue)
        return scale_values(change_colors(image, saturation, hue), contrast, 0.0)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """All random changes to a training image.

    Attributes:
        size: height and width of the result.
        crop: how the image is resized and cropped.
        colours: how its colors change; None if they don't. Recipes in files have this spelling.
        flip: the probability of mirroring left to right.
    """

    size: Annotated[Size, SIDE]
    crop: RandomCrop | LargeScaleJitter | RandomPart
    colours: ColorJitter | None = None
    flip: Annotated[float, Between(0, 1)] = 0.5

    def __post_init__(self):
        check_bounds(self)
        if len(self.size) != 2:
            raise ValueError(f"Augmentation: size is height and width, not {self.size}")
        if self.size[0] * self.size[1] > MAX_CROP_PIXELS:
            raise ValueError(
                f"Augmentation: size {self.size[0]} x {self.size[1]} has more than the "
                f"{MAX_CROP_PIXELS:,} pixels that a crop may have"
            )

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the changed example; beside a small image it is grey, without segments."""
        image, segments = example
        window = self.crop.draw(image.shape[:2], self.size, rng)
        size = window.most or self.size
        mirrored = rng.random() < self.flip
        image = crop_image(image, window, size)
        if self.colours is not None:
            image = self.colours(image, rng)
        regions = crop_map(segments.regions, window, size)
        if mirrored:
            image, regions = image[:, ::-1], regions[:, ::-1]
        missing = [want - have for want, have in zip(self.size, regions.shape, strict=True)]
        if any(missing):
            edges = [(0, pixels) for pixels in missing]
            image = np.pad(image, [*edges, (0, 0)], constant_values=GREY)
            regions = np.pad(regions, edges)
        return Example(image, Segments(regions, segments.members, segments.labels))


def random_crops(size: Size, edge: int, longest_edge: int, *, largest: float = 2.0) -> Augmentation:
    """Returns the authors' recipe: resize to 0.5 to 2 times an edge, crop, and change colors.

    `largest` is the greatest scale.
    """
    edges = tuple(int(0.1 * tenths * edge) for tenths in range(5, round(10 * largest) + 1))
    return Augmentation(
        size=size,
        crop=RandomCrop(shortest_edges=edges, longest_edge=longest_edge),
        colours=ColorJitter(),
    )


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "cityscapes": random_crops((512, 1024), 1024, 4096),
    "ade20k": random_crops((512, 512), 512, 2048),
    "ade20k-large": random_crops((640, 640), 640, 2560),
    "coco": Augmentation(size=(1024, 1024), crop=LargeScaleJitter(scales=(0.1, 2.0))),
    "coco-maskformer": Augmentation(
        size=(1333, 1333),
        crop=RandomPart(
            shortest_edges=tuple(range(480, 801, 32)),
            longest_edge=1333,
            first_edges=(400, 500, 600),
            sides=(384, 600),
        ),
    ),
    "coco-stuff": random_crops((640, 640), 640, 2560, largest=1.5),
}
"""The authors' recipes, by data set; on ADE20K, Swin-B and Swin-L were trained on larger crops."""


def crop_image(
    image: UInt8[np.ndarray, "_ _ 3"], window: Window, size: Size
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Returns the image's window, at most `size`, resized by PIL's bilinear filter."""
    (have_y, have_x), ((height, width), top, left, _) = image.shape[:2], window
    rows, columns = min(size[0], height - top), min(size[1], width - left)
    box = (
        left * have_x / width,
        top * have_y / height,
        min((left + columns) * have_x / width, have_x),
        min((top + rows) * have_y / height, have_y),
    )
    resized = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)


def crop_map(
    regions: Int32[np.ndarray, "_ _"], window: Window, size: Size
) -> Int32[np.ndarray, "_ _"]:
    """Returns the map's window, at most `size`, resized by nearest neighbours."""
    y, x = (
        (2 * np.arange(start, min(start + want, resized)) + 1) * have // (2 * resized)
        for start, want, resized, have in zip(
            (window.top, window.left), size, window.resized, regions.shape, strict=True
        )
    )
    return regions[y[:, None], x]


def scale_values(
    image: UInt8[np.ndarray, "height width 3"], factor: float, added: float
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns value x factor + added, clipped to 0..255 and truncated."""
    if factor == 1 and added == 0:
        return image
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(added)
    return table.clip(0, 255).astype(np.uint8)[image]


def change_colors(
    image: UInt8[np.ndarray, "height width 3"], saturation: float, hue: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the image with its saturation scaled, at most to 1, and its hue turned.

    Equal to OpenCV's 8-bit HSV but for its rounding. The HSV value stays; the distance from grey
    (value - least channel) is saturation x value.

    Args:
        image: RGB.
        saturation: factor of the saturation.
        hue: added to the hue, in OpenCV's steps of 2 degrees; positive from red towards green.
    """
    if saturation == 1 and hue == 0:
        return image
    red, green, blue = np.moveaxis(image, -1, 0).astype(np.float32)
    value = np.maximum(np.maximum(red, green), blue)
    color = value - np.minimum(np.minimum(red, green), blue)
    if hue == 0:
        factor = np.minimum(np.float32(saturation), value / np.maximum(color, 1))
        channels = (value - (value - channel) * factor for channel in (red, green, blue))
    else:
        divisor = np.maximum(color, 1)
        sextant = np.where(
            value == red,
            (green - blue) / divisor,
            np.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
        )
        sextant += np.float32(hue / SEXTANT)
        color = np.minimum(color * np.float32(saturation), value)
        channels = (value - color * lack(sextant - opposite) for opposite in (3, 5, 1))
    return np.stack([np.rint(channel).astype(np.uint8) for channel in channels], axis=-1)


def lack(sextants: np.ndarray) -> np.ndarray:
    """Returns the fraction of the color, 0 to 1, that a channel lacks.

    Args:
        sextants: distance of the hue from the one opposite to the channel's, in sixths of a turn.
    """
    away = np.abs(sextants - 6 * np.rint(sextants / 6))
    return (2 - away).clip(0, 1)
