"""Classes of pixels drawn over a photograph: colors, stripes where they are wrong, and names."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from m2f_jax.visualization.color import class_colors

from ..page import percent
from .labels import placed
from .picture import Shape, Side
from .small_images import base64_of

COARSE = 8  # pixels between the rows that are looked at for the place of a name
LEAST_PART = 0.01  # of an image, from which on a class has its name in it


def pixel_sides(
    truth: Int[np.ndarray, "rows columns"],
    found: Int[np.ndarray, "rows columns"],
    names: Sequence[str],
) -> tuple[Side, Side]:
    """Draws both sides of a picture of classes, by index; -1 is none, and isn't judged."""
    found = np.where(truth < 0, -1, found)
    wrong = (truth != found) & (truth >= 0)
    share = percent(np.count_nonzero(wrong) / max(np.count_nonzero(truth >= 0), 1))
    return (
        Side(
            words="ground truth",
            details=f", classes: {', '.join(present(truth, names))}",
            overlay=class_overlay(truth, np.zeros_like(wrong), names),
            shapes=class_names_of(truth, names),
        ),
        Side(
            words=f"prediction: {share} % of the pixels are wrong",
            details=f", classes: {', '.join(present(found, names))}",
            overlay=class_overlay(found, wrong, names),
            shapes=class_names_of(found, names),
        ),
    )


def present(classes: Int[np.ndarray, "rows columns"], names: Sequence[str]) -> list[str]:
    """Returns the names of the classes in a map."""
    return [names[int(k)] for k in np.unique(classes) if k >= 0]


def class_overlay(
    classes: Int[np.ndarray, "rows columns"],
    wrong: Bool[np.ndarray, "rows columns"],
    names: Sequence[str],
) -> str:
    """Returns a PNG of the classes' colors, with stripes where they are wrong."""
    colors = class_colors(tuple(names))
    rows, columns = np.indices(classes.shape)
    stripe = wrong & ((rows + columns) % 8 < 2)
    opacity = np.where(wrong, 215, 110)
    color = np.where(stripe[..., None], 0, colors[classes.clip(0)])
    opacity = np.where(classes < 0, np.where(wrong, 215, 0), opacity)
    pixels = np.concatenate([color, opacity[..., None]], axis=-1).astype(np.uint8)
    image = Image.fromarray(pixels, "RGBA").quantize(256, method=Image.Quantize.FASTOCTREE)
    return base64_of(image, "PNG", compress_level=6)


def class_names_of(
    classes: Int[np.ndarray, "rows columns"], names: Sequence[str]
) -> tuple[Shape, ...]:
    """Returns the names of the larger classes, each placed on the largest part of it."""
    size, taken, shapes = classes.shape[::-1], [], []
    counts = np.bincount(classes.ravel() + 1, minlength=len(names) + 1)[1:]
    for k in map(int, np.argsort(-counts, kind="stable")):
        if counts[k] < LEAST_PART * classes.size:
            break
        label, x, y = placed([names[k]], longest_run(classes == k), size, taken)
        shapes.append(Shape(style="name", path="", title=names[k], label=label, x=x, y=y))
    return tuple(shapes)


def longest_run(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Returns the longest run of a mask along a row, alone; rows between are left out."""
    coarse = mask[COARSE // 2 :: COARSE, COARSE // 2 :: COARSE]
    lengths, run = np.zeros(coarse.shape, np.int64), np.zeros(len(coarse), np.int64)
    for column, inside in enumerate(coarse.T):
        lengths[:, column] = run = np.where(inside, run + 1, 0)
    row, end = np.unravel_index(int(lengths.argmax()), coarse.shape)
    part = np.zeros_like(mask)
    start = end + 1 - lengths[row, end]
    part[row * COARSE + COARSE // 2, start * COARSE : (end + 1) * COARSE] = True
    return part
