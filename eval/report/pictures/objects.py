"""Objects and segments drawn over a photograph: outlines with their verdicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from m2f_jax.masks.rle import decode_rle

from .labels import placed
from .outlines import outline_path
from .picture import Shape, Side
from .small_images import resized
from .verdicts import VERDICTS, Objects, Scene, judge

MOST_SHAPES = 100  # objects drawn on one side of a picture


def object_sides(scene: Scene, size: tuple[int, int]) -> tuple[Side, Side]:
    """Both sides of a picture of objects; `size` is width and height."""
    verdicts = judge(scene)

    def side(words: str, objects: Objects, styles: Sequence[str]) -> Side:
        shapes = shapes_of(scene, objects, styles, size)
        counts = {style: styles.count(style) for style in VERDICTS if style in styles}
        said = ", ".join(f"{count} {VERDICTS[style][0]}" for style, count in counts.items())
        words = f"{words}: {said or 'nothing'}"
        words += f" (only {MOST_SHAPES} are drawn)" * (len(styles) > MOST_SHAPES)
        return Side(words=words, details="", overlay="", shapes=shapes)

    return (
        side("ground truth", scene.truth, verdicts.truth),
        side("prediction", scene.found, verdicts.found),
    )


def shapes_of(
    scene: Scene, objects: Objects, styles: Sequence[str], size: tuple[int, int]
) -> tuple[Shape, ...]:
    """Outlines with labels, large ones below small ones."""
    shapes, taken, areas = [], [], []
    for i, style in list(enumerate(styles))[:MOST_SHAPES]:
        mask = small_mask(objects.masks[i], size)
        areas.append(int(mask.sum()))
        words, letter = VERDICTS[style]
        name = scene.class_names[int(objects.classes[i])]
        name += "" if objects.scores is None else f" {objects.scores[i]:.2f}"
        label, x, y = placed([f"{letter} {name}".strip(), letter], mask, size, taken)
        shapes.append(
            Shape(
                style=style,
                path=outline_path(mask),
                title=f"{name}: {words}",
                label=label,
                x=x,
                y=y,
            )
        )
    order = sorted(range(len(shapes)), key=lambda i: -areas[i])
    return tuple(shapes[i] for i in order)


def small_mask(rle: Any, size: tuple[int, int]) -> Bool[np.ndarray, "rows columns"]:
    """Returns a mask in the size of a picture, with a pixel at least if it had any."""
    counts = rle["counts"]
    mask = decode_rle(counts.encode() if isinstance(counts, str) else counts, tuple(rle["size"]))
    small = resized(mask, size)
    if not small.any() and mask.any():
        rows, columns = np.nonzero(mask)
        scale = size[0] / mask.shape[1]
        small[int(rows[0] * scale) % size[1], int(columns[0] * scale) % size[0]] = True
    return small
