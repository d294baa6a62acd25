"""The outlines of masks as paths of SVG.

Axes: N corners of a line; a corner is x, y in pixels.
"""

from collections import defaultdict

import numpy as np
from jaxtyping import Bool, Int

from m2f_jax.masks.boxes import mask_box

TOLERANCE = 1.0  # pixels by which a line may be off
SMALLEST = 6.0  # pixels in a part or hole that is drawn, but for the largest part


def outline_path(mask: Bool[np.ndarray, "height width"]) -> str:
    """Returns the `d` of a path around a mask and its holes; empty for an empty mask."""
    left, top, right, bottom = mask_box(mask)
    lines = [line + np.array([left, top]) for line in border_lines(mask[top:bottom, left:right])]
    areas = [abs(area(line)) for line in lines]
    lines = [x for x, size in zip(lines, areas, strict=True) if size >= min(SMALLEST, max(areas))]
    return "".join(map(path_of, map(simplified, lines)))


def border_lines(mask: Bool[np.ndarray, "height width"]) -> list[Int[np.ndarray, "N 2"]]:
    """Returns closed lines of pixels' corners along the border of a mask, clockwise around it."""
    padded, (height, width) = np.pad(mask, 1), mask.shape
    inside = padded[1:-1, 1:-1]
    corners = np.arange((height + 1) * (width + 1)).reshape(height + 1, width + 1)
    following: dict[int, list[int]] = defaultdict(list)
    for outside, start, end in (
        (padded[:-2, 1:-1], corners[:-1, :-1], corners[:-1, 1:]),  # above
        (padded[1:-1, 2:], corners[:-1, 1:], corners[1:, 1:]),  # to the right
        (padded[2:, 1:-1], corners[1:, 1:], corners[1:, :-1]),  # below
        (padded[1:-1, :-2], corners[1:, :-1], corners[:-1, :-1]),  # to the left
    ):
        edge = inside & ~outside
        for a, b in zip(start[edge].tolist(), end[edge].tolist(), strict=True):
            following[a].append(b)
    lines = []
    while following:
        line = [first := next(iter(following))]
        while (at := following[line[-1]].pop()) != first:
            if not following[line[-1]]:
                del following[line[-1]]
            line.append(at)
        if not following[line[-1]]:
            del following[line[-1]]
        rows, columns = np.divmod(np.array(line), width + 1)
        lines.append(np.stack([columns, rows], axis=1))
    return lines


def area(line: Int[np.ndarray, "N 2"]) -> float:
    """Returns the area within a closed line; negative around a hole."""
    x, y = line.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplified(line: Int[np.ndarray, "N 2"]) -> Int[np.ndarray, "kept 2"]:
    """Returns a closed line with fewer corners (Douglas and Peucker, 1973)."""
    steps = np.diff(line, axis=0, append=line[:1])
    line = line[(steps != np.roll(steps, 1, axis=0)).any(axis=1)]
    closed = np.concatenate([line, line[:1]])
    middle = int(((line - line[0]) ** 2).sum(axis=1).argmax())
    kept = np.zeros(len(closed), bool)
    kept[[0, middle]] = True
    todo = [(0, middle), (middle, len(line))]
    while todo:
        start, end = todo.pop()
        if end - start < 2:
            continue
        (dx, dy), part = closed[end] - closed[start], closed[start + 1 : end] - closed[start]
        length = float(np.hypot(dx, dy))
        away = np.abs(dx * part[:, 1] - dy * part[:, 0]) / length if length else np.hypot(*part.T)
        farthest = int(away.argmax())
        if away[farthest] > TOLERANCE:
            kept[at := start + 1 + farthest] = True
            todo += [(start, at), (at, end)]
    return closed[kept]


def path_of(line: Int[np.ndarray, "N 2"]) -> str:
    """Returns a closed line as commands of a path."""
    x, y = line[0].tolist()
    steps = " ".join(f"{dx} {dy}" for dx, dy in np.diff(line, axis=0).tolist())
    return f"M{x} {y}l{steps}z"
