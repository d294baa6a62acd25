"""Where the labels of a picture go: on their own object or beside it, never on another one.

Labels are placed one after the other. Each takes the cheapest position on a grid around its object;
integral images count the pixels that every position would cover.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from m2f_jax.visualization.parts import Box, boxes_of, connected_parts

NO_OBJECT = -1

# The cost of a position; the unit is about the cost of a label right beside its object.
BESIDE = 1.0
HIDES = 4.0  # times the share of its own object that the label hides
ACROSS = 0.6  # half on the object, half beside it
AWAY = 0.8  # times the distance to the object, in heights of the label
TOUCHES = 0.2  # beside the object, and touching another one or a label
BELOW = 0.3  # below the object rather than above it; half as much at its side
NARROW = 0.3  # on the object, with no room around
OFF_CENTRE = 0.3  # on the object, but at an end of it
SMALLER = 0.5  # every step from the preferred form to a smaller one

REACH = 3.0  # the farthest that a label goes from its object, in heights of the label
MOST_HIDDEN = 0.6  # the largest share of its own object that a label may hide
LARGE_PART = 0.01  # the share of the image from which a part of an object is large
TRIES = 8  # positions that are tried per form, as a line to the object may cross something


@dataclass(frozen=True, kw_only=True)
class Plate:
    """The place of one label, in pixels.

    Attributes:
        form: index of the label's form among those that were offered.
        left: first column.
        top: first row.
        width: number of columns.
        height: number of rows.
        target: column and row that a line leads to, if the label stands away from its object.
    """

    form: int
    left: int
    top: int
    width: int
    height: int
    target: tuple[int, int] | None

    def moved(self, x: int, y: int) -> "Plate":
        """Returns the plate that many columns to the right and rows further down."""
        target = self.target and (self.target[0] + x, self.target[1] + y)
        return replace(self, left=self.left + x, top=self.top + y, target=target)

    def grown(self, margin: int) -> tuple[slice, slice]:
        """Returns its rows and columns with a margin around them."""
        rows = slice(max(self.top - margin, 0), self.top + self.height + margin)
        return rows, slice(max(self.left - margin, 0), self.left + self.width + margin)


def place_labels(
    owners: Int[np.ndarray, "height width"],
    forms: Mapping[int, Sequence[tuple[int, int]]],
    *,
    may_leave: bool,
    taken: Sequence[Plate] = (),
) -> dict[int, Plate]:
    """Places labels, by the index of their object; those without a good place are left out.

    A label covers no pixel of another object, and no other label.

    Args:
        owners: index of the object that is seen at every pixel, -1 where there is none.
        forms: width and height of every label in pixels, by the index of its object: first the
            preferred form, then smaller ones. Earlier labels choose before later ones.
        may_leave: whether labels may stand beside their objects too, rather than on them alone.
        taken: labels that are placed already.
    """
    step = max(1, round(owners.size**0.5 / 320))  # between the positions that are tried
    labelled = np.zeros(owners.shape, bool)
    for plate in taken:
        labelled[plate.grown(step)] = True
    boxes = boxes_of(owners, max(forms, default=0) + 1)
    plates = {}
    for index, sizes in forms.items():
        if (box := boxes[index]) is None:
            continue
        window = surroundings_of(box, sizes) if may_leave else box
        plate = place_label(owners[window], labelled[window], index, sizes, may_leave, step)
        if plate is not None:
            plates[index] = plate.moved(window[1].start, window[0].start)
            labelled[plates[index].grown(step)] = True
    return plates


def surroundings_of(box: Box, sizes: Sequence[tuple[int, int]]) -> Box:
    """Returns the rows and columns around an object's box that its labels can lie in."""
    reach = int(REACH * max(height for _, height in sizes))
    width, height = (reach + max(side) for side in zip(*sizes, strict=True))
    rows, columns = box
    return (
        slice(max(rows.start - height, 0), rows.stop + height),
        slice(max(columns.start - width, 0), columns.stop + width),
    )


def place_label(
    owners: Int[np.ndarray, "height width"],
    labelled: Bool[np.ndarray, "height width"],
    index: int,
    sizes: Sequence[tuple[int, int]],
    may_leave: bool,
    step: int,
) -> Plate | None:
    """Returns the best place for an object's label in its surroundings, if there is a good one."""
    own = owners == index
    blocked = labelled | ((owners != NO_OBJECT) & ~own)
    surroundings = Surroundings(own, blocked)
    best, best_cost = None, np.inf
    for form, (width, height) in enumerate(sizes):
        if SMALLER * form >= best_cost:
            break
        tops, lefts = (
            np.arange(0, room - side + 1, step)
            for room, side in zip(own.shape, (height, width), strict=True)
        )
        cost = SMALLER * form + surroundings.costs(tops, lefts, height, width, may_leave)
        for _ in range(TRIES):
            if not cost.size or cost.min() >= best_cost:
                break
            i, j = np.unravel_index(cost.argmin(), cost.shape)
            y, x = int(tops[i]), int(lefts[j])
            start, end = surroundings.shortest_line(y, x, height, width)
            length = int(np.abs(end - start).max())
            line = np.linspace(start, end, length + 1).round().astype(int)[1:]
            if not blocked[tuple(line.T)].any():
                far = length > max(2 * step, height // 3)
                best_cost = cost[i, j]
                best = Plate(
                    form=form,
                    left=x,
                    top=y,
                    width=width,
                    height=height,
                    target=(int(end[1]), int(end[0])) if far else None,
                )
                break
            cost[np.ix_(np.abs(tops - y) <= height, np.abs(lefts - x) <= height)] = np.inf
    return best


class Surroundings:
    """The pixels around one object, with integral images that count them within rectangles."""

    def __init__(
        self, own: Bool[np.ndarray, "rows columns"], blocked: Bool[np.ndarray, "rows columns"]
    ):
        self.y, self.x = np.nonzero(own)
        self.own, self.blocked = (
            np.pad(pixels.cumsum(axis=0, dtype=np.int32).cumsum(axis=1), ((1, 0), (1, 0)))
            for pixels in (own, blocked)
        )

    def costs(
        self,
        tops: Int[np.ndarray, "y"],
        lefts: Int[np.ndarray, "x"],
        height: int,
        width: int,
        may_leave: bool,
    ) -> Float[np.ndarray, "y x"]:
        """Returns the cost of every position of a label; infinite where it can't stand."""

        def count(integral: Int[np.ndarray, "rows1 columns1"], margin: int = 0) -> np.ndarray:
            rows, columns = integral.shape
            low_y, high_y = tops - margin, tops + height + margin
            low_x, high_x = lefts - margin, lefts + width + margin
            by_row = integral[high_y.clip(None, rows - 1)] - integral[low_y.clip(0)]
            return by_row[:, high_x.clip(None, columns - 1)] - by_row[:, low_x.clip(0)]

        own = count(self.own)
        hidden = own / len(self.y)
        on_object = own == height * width
        y = tops[:, None] + height / 2 - self.y.mean()
        x = lefts + width / 2 - self.x.mean()
        room = count(self.own, height) / ((3 * height) * (width + 2 * height))
        # A little below the centre, as faces are above it.
        off_centre = np.hypot(y / (np.ptp(self.y) + 1) - 0.15, x / (np.ptp(self.x) + 1))
        cost = NARROW * (1 - room) + OFF_CENTRE * off_centre
        if may_leave:
            distance = np.full(own.shape, np.inf)
            for margin in np.geomspace(REACH * height, 1, 8).astype(int).tolist():
                distance[count(self.own, margin) > 0] = margin
            distance[own > 0] = 0
            beside = BESIDE + AWAY * distance / height + ACROSS * (own > 0)
            beside += TOUCHES * (count(self.blocked, 1) > 0)
            beside += BELOW * (0.5 + 0.5 * y / np.hypot(y, x).clip(1))
            cost = np.where(on_object, cost, beside)
        possible = (count(self.blocked) == 0) & (hidden <= MOST_HIDDEN) & (may_leave | on_object)
        return np.where(possible, cost + HIDES * hidden, np.inf)

    def shortest_line(
        self, top: int, left: int, height: int, width: int
    ) -> tuple[Int[np.ndarray, "2"], Int[np.ndarray, "2"]]:
        """Returns the ends, as row and column, of the shortest line from a label to the object."""
        y, x = self.y.clip(top, top + height - 1), self.x.clip(left, left + width - 1)
        nearest = np.hypot(self.y - y, self.x - x).argmin()
        return np.array([y[nearest], x[nearest]]), np.array([self.y[nearest], self.x[nearest]])


def large_parts(
    owners: Int[np.ndarray, "height width"],
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, "parts"]]:
    """Splits objects into connected parts: the largest one of each, and all others that are large.

    Returns:
        The index of the part at every pixel (-1 where there is no object, the number of parts
        where there is a smaller one), and the index of every part's object; largest part first.
    """
    pieces, owner = connected_parts(owners)
    sizes = np.bincount(pieces.ravel())
    order = np.lexsort((owner, -sizes))
    chosen = sizes[order] >= LARGE_PART * owners.size
    chosen[np.unique(owner[order], return_index=True)[1]] = True  # the largest one of each
    order = order[chosen & (owner[order] != NO_OBJECT)]
    numbers = np.where(owner == NO_OBJECT, NO_OBJECT, len(order)).astype(owners.dtype)
    numbers[order] = np.arange(len(order))
    return numbers[pieces], owner[order]
