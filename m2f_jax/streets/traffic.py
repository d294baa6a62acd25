"""Who uses a street: vehicles that drive or stand, people, riders, and crowds in the distance."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from m2f_jax.streets.canvas import Canvas
from m2f_jax.streets.cars import CAR, car
from m2f_jax.streets.cycles import BICYCLE, Cycle, bicycle, draw_cycle, motorcycle
from m2f_jax.streets.dice import Dice, Number
from m2f_jax.streets.figures import Limb, cyclist, draw_limbs, walker
from m2f_jax.streets.furniture import dynamic_thing
from m2f_jax.streets.plan import PARKING, Side, Street
from m2f_jax.streets.solids import Vehicle
from m2f_jax.streets.stage import Footprint, Item, box_points
from m2f_jax.streets.transit import bus, tram
from m2f_jax.streets.trucks import towed, truck
from m2f_jax.streets.vehicle_drawing import draw_vehicle
from m2f_jax.streets.view import Pose, View

PERSON, RIDER = 24, 25
BESIDE = math.pi / 2


@dataclass
class Traffic:
    """Things placed so far; nothing stands where another thing does."""

    items: list[Item] = field(default_factory=list)
    taken: list[Footprint] = field(default_factory=list)

    def free(self, footprint: Footprint, gap: Number = 0.3) -> bool:
        """Whether nothing is there."""
        left, right, near, far = footprint
        return not any(
            left - gap < other[1]
            and other[0] < right + gap
            and near - gap < other[3]
            and other[2] < far + gap
            for other in self.taken
        )

    def add(self, item: Item, gap: Number = 0.3) -> bool:
        """Puts an item there, unless the place is taken."""
        if not self.free(item.footprint, gap):
            return False
        self.items.append(item)
        self.taken.append(item.footprint)
        return True


def owner_for(canvas: Canvas, label_id: int, grouped: bool) -> int:
    """The owner of a new object's pixels: the object, or the group of its class."""
    return label_id if grouped else canvas.new_object(label_id)


def vehicle_item(vehicle: Vehicle, pose: Pose, *, grouped: bool = False) -> Item:
    """A vehicle as an item."""
    footprint = pose.footprint(vehicle.width, vehicle.length)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        owner = owner_for(canvas, vehicle.label_id, grouped)
        draw_vehicle(canvas, view, vehicle, pose, owner, sunlit)

    slim = pose.footprint(vehicle.width * 0.8, vehicle.length * 0.7)
    shadow = box_points(slim, vehicle.height), box_points(footprint, vehicle.height * 0.6)
    return Item(footprint=footprint, draw=draw, shadow=shadow, contact=True)


def person_item(limbs: list[Limb], pose: Pose, *, grouped: bool = False) -> Item:
    """Someone on foot as an item."""
    footprint = pose.footprint(0.5, 0.4)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        draw_limbs(canvas, view, limbs, pose, owner_for(canvas, PERSON, grouped), sunlit)

    slim = pose.footprint(0.36, 0.3)
    return Item(footprint=footprint, draw=draw, shadow=(box_points(slim, 1.7),), contact=True)


def cycle_item(
    cycle: Cycle, pose: Pose, rider: list[Limb] | None = None, *, grouped: bool = False
) -> Item:
    """A bicycle or motorcycle as an item, with or without its rider, who is another object."""
    footprint = pose.footprint(0.5, 1.8 if cycle.label_id == BICYCLE else 2.1)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        draw_cycle(canvas, view, cycle, pose, owner_for(canvas, cycle.label_id, grouped), sunlit)
        if rider:
            draw_limbs(canvas, view, rider, pose, owner_for(canvas, RIDER, grouped), sunlit)

    shadow = [box_points(pose.footprint(0.1, 1.6), 0.8)]
    if rider:
        shadow.append(box_points(pose.footprint(0.4, 0.5), 1.7, base=0.6))
    return Item(footprint=footprint, draw=draw, shadow=tuple(shadow), contact=True)


def traffic(dice: Dice, street: Street) -> list[Item]:
    """All of it, fewer or more by chance."""
    placed = Traffic()
    busy = dice.uniform(0.45, 1.35)
    place_special(dice, street, placed)
    place_crossing(dice, street, placed)
    for lane in street.lanes:
        place_lane(dice, street, placed, lane.x, lane.direction, busy)
    for side in street.sides:
        if side.parking:
            place_parked(dice, street, placed, side, busy)
    place_riders(dice, street, placed)
    for side in street.sides:
        place_pavement(dice, placed, side, busy)
    return placed.items


def place_special(dice: Dice, street: Street, placed: Traffic):
    """Trams, buses and trucks: rare in Cityscapes, and made a little more frequent here."""
    if street.tracks and dice.chance(0.65):
        for k, x in enumerate(street.tracks):
            if dice.chance(0.65):
                vehicle = tram(dice)
                z = dice.uniform(7, 45) + vehicle.length / 2
                placed.add(vehicle_item(vehicle, Pose(x=x, z=z, heading=math.pi if k else 0.0)))
    makers: list[Callable[[Dice], Vehicle]] = []
    makers += [bus] * dice.weighted({0: 0.74, 1: 0.22, 2: 0.04})
    makers += [truck] * dice.weighted({0: 0.70, 1: 0.25, 2: 0.05})
    for make in makers:
        vehicle = make(dice)
        lane = dice.choose(street.lanes)
        near = 12 if abs(lane.x) < 1 else 7
        z = distance(dice, near, near + 38) + vehicle.length / 2
        heading = (0.0 if lane.direction == 1 else math.pi) + dice.uniform(-0.03, 0.03)
        placed.add(vehicle_item(vehicle, Pose(x=lane.x, z=z, heading=heading)), gap=1.0)


def place_crossing(dice: Dice, street: Street, placed: Traffic):
    """Vehicles on a side street, seen from the side or as they turn; people who cross."""
    for side in street.sides:
        plot = next((plot for plot in side.plots if plot.kind == "side street"), None)
        if not plot or plot.near < 9 or dice.chance(0.35):
            continue
        middle = (plot.near + plot.far) / 2
        for lane, heading in ((middle + 1.6, -BESIDE), (middle - 1.6, BESIDE)):
            if dice.chance(0.5):
                across = dice.chance(0.35)
                x = dice.uniform(-8, 8) if across else side.x(dice.uniform(3, 12))
                make = dice.weighted({car: 8, truck: 1, bus: 1})
                turn = dice.uniform(-0.5, 0.5) if across and dice.chance(0.4) else 0.0
                pose = Pose(x=x, z=lane, heading=heading + turn)
                placed.add(vehicle_item(make(dice), pose), gap=0.6)
    if street.zebra:
        for _ in range(dice.weighted({0: 2, 1: 3, 2: 3, 3: 2, 4: 1})):
            pose = Pose(
                x=dice.uniform(street.left.kerb, street.right.kerb),
                z=street.zebra + dice.uniform(0.4, 2.8),
                heading=dice.sign() * BESIDE + dice.uniform(-0.3, 0.3),
            )
            placed.add(person_item(walker(dice), pose))


def place_lane(
    dice: Dice, street: Street, placed: Traffic, x: Number, direction: int, busy: Number
):
    """Cars and a few motorcycles in one lane."""
    own = abs(x) < 1
    z = dice.uniform(8, 30) if own else dice.uniform(4, 25)
    while z < min(110, street.end):
        pose_x = x + dice.uniform(-0.3, 0.3)
        heading = (0.0 if direction == 1 else math.pi) + dice.uniform(-0.04, 0.04)
        far = z > 75
        if dice.chance(0.55 * busy):
            if dice.chance(0.07) and not far:
                pose = Pose(x=pose_x, z=z, heading=heading)
                rider = cyclist(dice, motorised=True)
                placed.add(cycle_item(motorcycle(dice), pose, rider))
            else:
                vehicle = car(dice)
                pose = Pose(x=pose_x, z=z + vehicle.length / 2, heading=heading)
                placed.add(vehicle_item(vehicle, pose, grouped=far), gap=1.2)
                if dice.chance(0.04) and direction == 1:
                    behind = Pose(x=pose_x, z=z - 2.6, heading=heading)
                    if behind.z > 7:
                        placed.add(vehicle_item(towed(dice), behind), gap=0.1)
        z += dice.uniform(7, 22)


def place_parked(dice: Dice, street: Street, placed: Traffic, side: Side, busy: Number):
    """A row of cars at the kerb; far away they are a group."""
    x = side.x(-PARKING / 2 - 0.05)
    full = dice.uniform(0.45, 0.95) * min(busy + 0.3, 1)
    z = dice.uniform(0.5, 6)
    limit = dice.uniform(45, 80)
    while z < min(120, street.end - 5):
        plot = side.plot_at(z + 2)
        if plot and plot.kind != "side street" and dice.chance(full):
            make = dice.weighted({car: 30, truck: 0.7, towed: 0.35})
            vehicle = make(dice)
            heading = 0.0 if (side.sign == 1) == dice.chance(0.93) else math.pi
            pose = Pose(
                x=x + dice.uniform(-0.12, 0.12),
                z=z + vehicle.length / 2,
                heading=heading + dice.uniform(-0.03, 0.03),
            )
            if pose.z - vehicle.length / 2 > 1.2:
                grouped = z > limit and vehicle.label_id == CAR
                placed.add(vehicle_item(vehicle, pose, grouped=grouped), gap=0.2)
            z += vehicle.length + dice.uniform(0.5, 1.3)
        else:
            z += dice.uniform(3, 7)


def place_riders(dice: Dice, street: Street, placed: Traffic):
    """Cyclists at the edge of the road, now and then a motorcyclist or one who crosses."""
    for _ in range(dice.weighted({0: 2, 1: 3.2, 2: 2.4, 3: 1.3, 4: 0.7})):
        side = dice.choose(street.sides)
        inward = (PARKING + 0.7) if side.parking else dice.uniform(0.5, 1.1)
        on_pavement = dice.chance(0.25)
        x = side.x(dice.uniform(0.6, max(side.walkway[1] - 0.8, 1)) if on_pavement else -inward)
        z = distance(dice, 6, 46)
        heading = 0.0 if side.sign == 1 else math.pi
        heading += dice.uniform(-0.25, 0.25) + (math.pi if dice.chance(0.1) else 0)
        if dice.chance(0.2):
            heading += dice.sign() * dice.uniform(0.6, BESIDE)
        motorised = dice.chance(0.15)
        cycle = motorcycle(dice) if motorised else bicycle(dice)
        pose = Pose(x=x, z=z, heading=heading)
        placed.add(cycle_item(cycle, pose, cyclist(dice, motorised=motorised)))


def place_pavement(dice: Dice, placed: Traffic, side: Side, busy: Number):
    """People alone, in twos and threes, and in crowds; parked bicycles; prams and dogs."""
    near, far = side.walkway
    x = Spread(side.x(near + 0.5), side.x(max(far - 0.4, near + 0.7)))
    for _ in range(round(dice.uniform(0.5, 11) * busy)):
        start = Pose(
            x=x.somewhere(dice),
            z=distance(dice, 5, 55),
            heading=dice.choose((0.0, math.pi, 0.0, math.pi, BESIDE)) + dice.uniform(-0.3, 0.3),
        )
        for k in range(dice.weighted({1: 6, 2: 3, 3: 1})):
            beside, z = start.x + side.sign * 0.62 * k, start.z + dice.uniform(-0.3, 0.3)
            pose = Pose(x=beside, z=z, heading=start.heading)
            placed.add(person_item(walker(dice), pose), gap=0.02)
    if dice.chance(0.3):
        centre = x.somewhere(dice)
        around = Spread(centre - 1.3, centre + 1.3)
        place_crowd(dice, placed, around, distance(dice, 14, 55), dice.whole(6, 12))
    if dice.chance(0.25):
        place_crowd(dice, placed, x, dice.uniform(60, 100), dice.whole(3, 8), deep=20)
    place_parked_cycles(dice, placed, x)
    if dice.chance(0.3):
        placed.add(dynamic_thing(dice, x.somewhere(dice), distance(dice, 5, 55)))


@dataclass(frozen=True)
class Spread:
    """A range of x."""

    low: Number
    high: Number

    def somewhere(self, dice: Dice) -> float:
        """An x in it."""
        return dice.uniform(self.low, self.high)


def distance(dice: Dice, low: Number, high: Number) -> float:
    """A distance in that range; near ones are likelier."""
    return low + (high - low) * dice.uniform(0, 1) ** 1.6


def place_crowd(dice: Dice, placed: Traffic, x: Spread, z: Number, count: int, deep: Number = 1.5):
    """People so close together, or so far away, that they are a group."""
    for _ in range(count):
        pose = Pose(
            x=x.somewhere(dice),
            z=z + dice.uniform(-deep, deep),
            heading=dice.uniform(0, 2 * math.pi),
        )
        placed.add(person_item(walker(dice), pose, grouped=True), gap=-0.1)


def place_parked_cycles(dice: Dice, placed: Traffic, x: Spread):
    """Bicycles and motorcycles at the edges of the pavement, or many in a rack, as a group."""
    if dice.chance(0.22):
        edge, z = dice.choose((x.low, x.high)), dice.uniform(7, 32)
        across = BESIDE + dice.uniform(-0.2, 0.2)
        for k in range(dice.whole(4, 9)):
            pose = Pose(x=edge, z=z + 0.55 * k, heading=across + dice.uniform(-0.1, 0.1))
            placed.add(cycle_item(bicycle(dice), pose, grouped=True), gap=-0.25)
    for _ in range(dice.weighted({0: 1.5, 1: 2.5, 2: 2.2, 3: 1.6, 4: 1})):
        pose = Pose(
            x=dice.choose((x.low, x.high)),
            z=distance(dice, 5, 40),
            heading=dice.choose((0.0, math.pi, BESIDE)) + dice.uniform(-0.2, 0.2),
        )
        make = motorcycle if dice.chance(0.25) else bicycle
        placed.add(cycle_item(make(dice), pose), gap=0.1)
