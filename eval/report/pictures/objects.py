"""Objects and segments drawn over a photograph: outlines with their verdicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from m2f_jax.masks.rle import decode_rle

from .labels import placed
from .outlines import outline_path
from .picture import Shape, Side
from .scenes import Scene
from .small_images import resized
from .verdicts import VERDICTS, verdicts_of

MOST_SHAPES = 100  # objects drawn on one side of a picture


def object_sides(scene: Scene, size: tuple[int, int]) -> tuple[Side, Side]:
    """Draws both sides of a picture of objects; `size` is width and height."""
    judged, verdicts = scene.judged, verdicts_of(scene.judged)
    objects, predictions = (
        [judged.class_names[k] for k in classes.tolist()]
        for classes in (judged.object_class, judged.classes)
    )
    if scene.scores is not None:
        scores = scene.scores.tolist()
        predictions = [f"{x} {score:.2f}" for x, score in zip(predictions, scores, strict=True)]
    return (
        side_of("ground truth", scene.truth, objects, verdicts.truth, size),
        side_of("prediction", scene.found, predictions, verdicts.found, size),
    )


def side_of(
    words: str,
    masks: Sequence[Any],
    names: Sequence[str],
    verdicts: Sequence[str],
    size: tuple[int, int],
) -> Side:
    """Draws one side of a picture: objects with their names and verdicts; of many, the first."""
    shapes = shapes_of(masks[:MOST_SHAPES], names[:MOST_SHAPES], verdicts[:MOST_SHAPES], size)
    counts = {style: verdicts.count(style) for style in VERDICTS if style in verdicts}
    said = ", ".join(f"{count} {VERDICTS[style][0]}" for style, count in counts.items())
    words = f"{words}: {said or 'nothing'}"
    words += f" (only {MOST_SHAPES} are drawn)" * (len(verdicts) > MOST_SHAPES)
    return Side(words=words, details="", overlay="", shapes=shapes)


def shapes_of(
    masks: Sequence[Any], names: Sequence[str], verdicts: Sequence[str], size: tuple[int, int]
) -> tuple[Shape, ...]:
    """Draws outlines with labels, large ones below small ones."""
    shapes, taken, areas = [], [], []
    for rle, name, style in zip(masks, names, verdicts, strict=True):
        mask = small_mask(rle, size)
        areas.append(int(mask.sum()))
        words, letter = VERDICTS[style]
        label, x, y = placed([f"{letter} {name}".strip(), letter], mask, size, taken)
        path, title = outline_path(mask), f"{name}: {words}"
        shapes.append(Shape(style=style, path=path, title=title, label=label, x=x, y=y))
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
