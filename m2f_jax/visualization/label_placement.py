"""Where the labels of a picture go: on their own object or beside it, never on another one.

The search works on square cells of a few pixels, and weighs every position of a label near its
object at once: integral images count what lies under it and show how far its object is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import einops
import numpy as np
from jaxtyping import Bool, Float, Int

NO_OBJECT = -1

# What a position costs; the unit is about what a label costs that stands right beside its object.
BESIDE = 1.0
HIDES = 4.0  # times the share of its own object that the label hides
ACROSS = 0.6  # half on the object, half beside it
AWAY = 0.8  # times the distance to the object, in heights of the label
TOUCHES = 0.2  # beside the object, and touching another one
BELOW = 0.3  # below the object rather than above it; half as much at its side
NARROW = 0.3  # on the object, with no room around
OFF_CENTRE = 0.3  # on the object, but at an end of it
SMALLER = 0.5  # every step from the preferred form to a smaller one

REACH = 3.0  # the farthest that a label goes from its object, in heights of the label
MOST_HIDDEN = 0.6  # the largest share of its own object that a label may hide
LARGE_PART = 0.01  # of the image
TRIES = 8  # places to try for which a line to the object would cross something


@dataclass(frozen=True, kw_only=True)
class Plate:
    """The place of one label, in pixels.

    Attributes:
        form: index of the label's form among those that were offered.
        left: first column.
        top: first row.
        width: number of columns.
        height: number of rows.
        target: column and row that a line has to lead to, if the label isn't at its object.
    """

    form: int
    left: int
    top: int
    width: int
    height: int
    target: tuple[int, int] | None


def place_labels(
    owners: Int[np.ndarray, "height width"],
    forms: Mapping[int, Sequence[tuple[int, int]]],
    *,
    may_leave: bool,
    taken: Sequence[Plate] = (),
) -> dict[int, Plate]:
    """The places of the labels that find a good one, by object; the others are better left out.

    A label covers no pixel of an object but its own, and no other label.

    Args:
        owners: index of the object that is seen at every pixel, -1 where there is none.
        forms: width and height of every label in pixels, by the index of its object: first the
            preferred form, then smaller ones. Earlier labels choose before later ones.
        may_leave: whether labels may stand beside their objects, too.
        taken: labels that stand already.
    """
    cells = Cells(owners)
    for plate in taken:
        cells.take(plate)
    plates = {}
    for index, sizes in forms.items():
        plate = cells.place(index, sizes, may_leave)
        if plate is not None:
            plates[index] = plate
            cells.take(plate)
    return plates


class Cells:
    """The image in square cells: which objects each of them shows, and where labels stand."""

    def __init__(self, owners: Int[np.ndarray, "height width"]):
        self.height, self.width = owners.shape
        self.cell = cell = max(1, round((self.height * self.width) ** 0.5 / 320))
        owners = np.pad(owners, ((0, -self.height % cell), (0, -self.width % cell)), mode="edge")
        objects = np.where(owners == NO_OBJECT, np.iinfo(owners.dtype).max, owners)
        self.highest = per_cell(np.maximum, owners, cell)
        self.lowest = per_cell(np.minimum, owners, cell)
        self.lowest_object = per_cell(np.minimum, objects, cell)
        self.taken = np.zeros(self.lowest.shape, bool)

    def take(self, plate: Plate):
        """Keeps later labels off this one and off the cells around it."""
        top, left = plate.top // self.cell, plate.left // self.cell
        bottom = (plate.top + plate.height - 1) // self.cell
        right = (plate.left + plate.width - 1) // self.cell
        self.taken[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2] = True

    def place(self, index: int, sizes: Sequence[tuple[int, int]], may_leave: bool) -> Plate | None:
        """The best place for an object's label, or None if there is no good one."""
        own = (self.highest == index) | (self.lowest_object == index)
        rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
        if not rows.size:
            return None
        # All that matters lies in the object's box and in the reach of its labels around that.
        heights = [-(-height // self.cell) for _, height in sizes]
        widths = [-(-width // self.cell) for width, _ in sizes]
        away_y = int((1 + REACH) * max(heights)) if may_leave else 0
        away_x = int(REACH * max(heights)) + max(widths) if may_leave else 0
        top, left = max(rows[0] - away_y, 0), max(columns[0] - away_x, 0)
        window = np.s_[top : rows[-1] + away_y + 1, left : columns[-1] + away_x + 1]
        highest, lowest_object = self.highest[window], self.lowest_object[window]
        surroundings = Surroundings(
            own=own[window],
            wholly_own=(highest == index) & (self.lowest[window] == index),
            others=(highest != NO_OBJECT) & ((highest != index) | (lowest_object != index)),
            taken=self.taken[window],
            margin=int(REACH * max(heights)) + 1,
        )
        best, best_cost = None, np.inf
        for form, (width, height) in enumerate(sizes):
            if SMALLER * form >= best_cost:
                break
            cost = surroundings.costs(heights[form], widths[form], may_leave) + SMALLER * form
            # The last cells may reach beyond the image, which a label must not.
            cost = cost[: max((self.height - height) // self.cell - top + 1, 0)]
            cost = cost[:, : max((self.width - width) // self.cell - left + 1, 0)]
            place = surroundings.cheapest(cost, heights[form], widths[form])
            if place is None or place.cost >= best_cost:
                continue
            best_cost = place.cost
            target = None
            if place.target is not None:
                y, x = place.target
                middle = self.cell // 2
                target = (int(left + x) * self.cell + middle, int(top + y) * self.cell + middle)
            best = Plate(
                form=form,
                left=int(left + place.x) * self.cell,
                top=int(top + place.y) * self.cell,
                width=width,
                height=height,
                target=target,
            )
        return best


@dataclass(frozen=True, kw_only=True)
class Place:
    """A position of a label among the cells; `target` is a row and a column."""

    cost: float
    y: int
    x: int
    target: tuple[int, int] | None


class Surroundings:
    """The cells around one object, as its label sees them."""

    def __init__(
        self,
        *,
        own: Bool[np.ndarray, "rows columns"],
        wholly_own: Bool[np.ndarray, "rows columns"],
        others: Bool[np.ndarray, "rows columns"],
        taken: Bool[np.ndarray, "rows columns"],
        margin: int,
    ):
        self.obstacles = others | taken
        self.y, self.x = np.nonzero(own)
        self.count_own = Counts(own, margin)
        self.count_wholly_own = Counts(wholly_own, margin)
        self.count_others = Counts(others, margin)
        self.count_obstacles = Counts(self.obstacles, margin)

    def costs(self, height: int, width: int, may_leave: bool) -> Float[np.ndarray, "y x"]:
        """What every position of a label of this size costs; infinite where it can't stand."""
        own = self.count_own.inside(height, width)
        on_object = self.count_wholly_own.inside(height, width) == height * width
        hidden = own / self.y.size
        possible = (self.count_obstacles.inside(height, width) == 0) & (hidden <= MOST_HIDDEN)
        y = np.arange(own.shape[0])[:, None] + (height - 1) / 2 - self.y.mean()
        x = np.arange(own.shape[1]) + (width - 1) / 2 - self.x.mean()

        room = np.zeros(own.shape)
        most_room = max(1, int((1.0 if may_leave else REACH) * height))
        for grow in steps_to(most_room):
            grown = (height + 2 * grow) * (width + 2 * grow)
            room[self.count_wholly_own.inside(height, width, grow) == grown] = grow / most_room
        # A little below the centre, as faces are above it.
        off_centre = np.hypot(y / (np.ptp(self.y) + 1) - 0.15, x / (np.ptp(self.x) + 1))
        cost_on_object = HIDES * hidden + NARROW * (1 - room) + OFF_CENTRE * off_centre
        if not may_leave:
            return np.where(possible & on_object, cost_on_object, np.inf)

        distance = np.full(own.shape, np.inf)
        for grow in reversed(steps_to(int(REACH * height))):
            distance[self.count_own.inside(height, width, grow) > 0] = grow / height
        distance[own > 0] = 0.0
        cost = BESIDE + AWAY * distance + HIDES * hidden + ACROSS * (own > 0)
        cost += TOUCHES * (self.count_others.inside(height, width, 1) > 0)
        cost += BELOW * (0.5 + 0.5 * y / np.maximum(np.hypot(y, x), 1.0))
        return np.where(possible, np.where(on_object, cost_on_object, cost), np.inf)

    def cheapest(self, cost: Float[np.ndarray, "y x"], height: int, width: int) -> Place | None:
        """The position of least cost from which a line to the object crosses nothing else."""
        cost = cost.copy()
        for _ in range(TRIES):
            if not cost.size or not np.isfinite(cost.min()):
                return None
            y, x = np.unravel_index(cost.argmin(), cost.shape)
            label_y, label_x = self.y.clip(y, y + height - 1), self.x.clip(x, x + width - 1)
            nearest = np.hypot(self.y - label_y, self.x - label_x).argmin()
            start = np.array([label_y[nearest], label_x[nearest]])
            end = np.array([self.y[nearest], self.x[nearest]])
            away = np.abs(end - start).max()
            place = Place(cost=float(cost[y, x]), y=int(y), x=int(x), target=None)
            if away <= max(2, height // 3):
                return place
            line = start + np.linspace(0.0, 1.0, 2 * away + 1)[1:, None] * (end - start)
            line_y, line_x = np.round(line).astype(int).T
            if not self.obstacles[line_y, line_x].any():
                return replace(place, target=(int(end[0]), int(end[1])))
            near = np.s_[max(y - height, 0) : y + height + 1, max(x - height, 0) : x + height + 1]
            cost[near] = np.inf
        return None


class Counts:
    """How many cells are True in rectangles, by an integral image with a margin of False."""

    def __init__(self, cells: Bool[np.ndarray, "rows columns"], margin: int):
        self.margin, (self.rows, self.columns) = margin, cells.shape
        padded = np.pad(cells, ((margin + 1, margin), (margin + 1, margin)))
        self.integral = padded.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)

    def inside(self, height: int, width: int, grow: int = 0) -> Int[np.ndarray, "y x"]:
        """The count at every position of a rectangle, grown by `grow` cells on every side."""
        y, x = max(self.rows - height + 1, 0), max(self.columns - width + 1, 0)
        low = self.margin - grow
        bottom, right = low + height + 2 * grow, low + width + 2 * grow
        upper, lower = self.integral[low : low + y], self.integral[bottom : bottom + y]
        return (
            lower[:, right : right + x]
            - lower[:, low : low + x]
            - upper[:, right : right + x]
            + upper[:, low : low + x]
        )


def per_cell(
    smallest_or_largest: np.ufunc, values: Int[np.ndarray, "height width"], cell: int
) -> Int[np.ndarray, "rows columns"]:
    """Reduces every square of `cell` pixels to one value."""
    rows = einops.rearrange(values, "(row y) width -> row y width", y=cell)
    rows = smallest_or_largest.reduce(rows, axis=1)
    return smallest_or_largest.reduce(
        einops.rearrange(rows, "row (column x) -> row column x", x=cell), axis=2
    )


def steps_to(end: int) -> list[int]:
    """About eight whole numbers from 1 to `end`, closer to each other where they are small."""
    return np.unique(np.geomspace(1, end, 8).round().astype(int)).tolist()


def large_parts(
    owners: Int[np.ndarray, "height width"],
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, "parts"]]:
    """Splits objects into connected parts: the largest one of each, and all others that are large.

    Returns:
        The index of the part at every pixel, -1 where there is no object, and one past the last
        part where there is only a small one; and the object of every part, the largest part first.
    """
    scale = (owners.shape[0] * owners.shape[1]) ** 0.5
    cell = max(1, round(scale / 200))
    coarse = owners[cell // 2 :: cell, cell // 2 :: cell]
    _, first, index, sizes = np.unique(
        connected(coarse), return_index=True, return_inverse=True, return_counts=True
    )
    objects = coarse.ravel()[first]
    order = np.argsort(-sizes, kind="stable")
    chosen = sizes[order] >= LARGE_PART * coarse.size
    chosen[np.unique(objects[order], return_index=True)[1]] = True
    order = order[chosen & (objects[order] != NO_OBJECT)]
    number = np.full(len(first), len(order), owners.dtype)
    number[order] = np.arange(len(order))
    rows, columns = (
        np.minimum(np.arange(size) // cell, cells - 1)
        for size, cells in zip(owners.shape, coarse.shape, strict=True)
    )
    parts = number[index.reshape(coarse.shape)][rows][:, columns]
    parts[owners != coarse[rows][:, columns]] = len(order)
    parts[owners == NO_OBJECT] = NO_OBJECT
    return parts, objects[order]


def connected(values: Int[np.ndarray, "rows columns"]) -> Int[np.ndarray, "rows columns"]:
    """One number for every set of equal values that hang together over the sides of cells."""
    numbers = np.arange(values.size).reshape(values.shape)
    while True:
        before = numbers
        numbers = highest_in_run(numbers, values)
        numbers = highest_in_run(numbers.T, values.T).T
        if np.array_equal(before, numbers):
            return numbers


def highest_in_run(
    numbers: Int[np.ndarray, "rows columns"], values: Int[np.ndarray, "rows columns"]
) -> Int[np.ndarray, "rows columns"]:
    """The highest number among the equal values beside each other in a row."""
    starts = np.ones(values.shape, bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    positions = np.flatnonzero(starts)
    highest = np.maximum.reduceat(numbers.ravel(), positions)
    return highest.repeat(np.diff(positions, append=values.size)).reshape(values.shape)
