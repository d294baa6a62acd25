"""Traffic: vehicles that drive or stand, people, riders, and crowds in the distance."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from m2f_jax.streets.drawing.canvas import Canvas
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.stage import Footprint, Item, box_points
from m2f_jax.streets.drawing.view import Pose, View
from m2f_jax.streets.layout.plan import PARKING, Side, Street
from m2f_jax.streets.things.cars import CAR, car
from m2f_jax.streets.things.cycles import BICYCLE, Cycle, bicycle, draw_cycle, motorcycle
from m2f_jax.streets.things.figures import Limb, cyclist, draw_limbs, walker
from m2f_jax.streets.things.furniture import dynamic_thing
from m2f_jax.streets.things.large_vehicles import bus, towed, tram, truck
from m2f_jax.streets.things.vehicles import Vehicle, draw_vehicle

PERSON, RIDER = 24, 25
BESIDE = math.pi / 2


@dataclass
class Traffic:
    """Things placed so far; nothing stands where another thing does."""

    items: list[Item] = field(default_factory=list)
    taken: list[Footprint] = field(default_factory=list)

    def free(self, footprint: Footprint, gap: Number = 0.3) -> bool:
        """Returns whether a footprint is free."""
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
    """Returns the owner of a new object's pixels: the object, or the group of its class."""
    return label_id if grouped else canvas.new_object(label_id)


def vehicle_item(vehicle: Vehicle, pose: Pose, *, grouped: bool = False) -> Item:
    """Returns a vehicle as an item."""
    footprint = pose.footprint(vehicle.width, vehicle.length)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        owner = owner_for(canvas, vehicle.label_id, grouped)
        draw_vehicle(canvas, view, vehicle, pose, owner, sunlit)

    slim = pose.footprint(vehicle.width * 0.8, vehicle.length * 0.7)
    shadow = box_points(slim, vehicle.height), box_points(footprint, vehicle.height * 0.6)
    return Item(footprint=footprint, draw=draw, shadow=shadow, contact=True)


def person_item(limbs: list[Limb], pose: Pose, *, grouped: bool = False) -> Item:
    """Returns someone on foot as an item."""
    footprint = pose.footprint(0.5, 0.4)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        draw_limbs(canvas, view, limbs, pose, owner_for(canvas, PERSON, grouped), sunlit)

    slim = pose.footprint(0.36, 0.3)
    return Item(footprint=footprint, draw=draw, shadow=(box_points(slim, 1.7),), contact=True)


def cycle_item(
    cycle: Cycle, pose: Pose, rider: list[Limb] | None = None, *, grouped: bool = False
) -> Item:
    """Returns a bicycle or motorcycle as an item, perhaps with its rider, who is another object."""
    footprint = pose.footprint(0.5, 1.8 if cycle.label_id == BICYCLE else 2.1)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        draw_cycle(canvas, view, cycle, pose, owner_for(canvas, cycle.label_id, grouped), sunlit)
        if rider:
            draw_limbs(canvas, view, rider, pose, owner_for(canvas, RIDER, grouped), sunlit)

    shadow = [box_points(pose.footprint(0.1, 1.6), 0.8)]
    if rider:
        shadow.append(box_points(pose.footprint(0.4, 0.5), 1.7, base=0.6))
    return Item(footprint=footprint, draw=draw, shadow=tuple(shadow), contact=True)


def traffic(rng: Random, street: Street) -> list[Item]:
    """Returns all traffic of a street, more or less of it by chance."""
    placed = Traffic()
    busy = rng.uniform(0.45, 1.35)
    place_special(rng, street, placed)
    place_crossing(rng, street, placed)
    for lane in street.lanes:
        place_lane(rng, street, placed, lane.x, lane.direction, busy)
    for side in street.sides:
        if side.parking:
            place_parked(rng, street, placed, side, busy)
    place_riders(rng, street, placed)
    for side in street.sides:
        place_pavement(rng, placed, side, busy)
    return placed.items


def place_special(rng: Random, street: Street, placed: Traffic):
    """Places trams, buses and trucks: rare in Cityscapes, and made a little more frequent here."""
    if street.tracks and rng.chance(0.65):
        for k, x in enumerate(street.tracks):
            if rng.chance(0.65):
                vehicle = tram(rng)
                z = rng.uniform(7, 45) + vehicle.length / 2
                placed.add(vehicle_item(vehicle, Pose(x=x, z=z, heading=math.pi if k else 0.0)))
    makers: list[Callable[[Random], Vehicle]] = []
    makers += [bus] * rng.weighted({0: 0.74, 1: 0.22, 2: 0.04})
    makers += [truck] * rng.weighted({0: 0.70, 1: 0.25, 2: 0.05})
    for make in makers:
        vehicle = make(rng)
        lane = rng.choose(street.lanes)
        near = 12 if abs(lane.x) < 1 else 7
        z = distance(rng, near, near + 38) + vehicle.length / 2
        heading = (0.0 if lane.direction == 1 else math.pi) + rng.uniform(-0.03, 0.03)
        placed.add(vehicle_item(vehicle, Pose(x=lane.x, z=z, heading=heading)), gap=1.0)


def place_crossing(rng: Random, street: Street, placed: Traffic):
    """Places vehicles on a side street, seen from the side or as they turn; people who cross."""
    for side in street.sides:
        plot = next((plot for plot in side.plots if plot.kind == "side street"), None)
        if not plot or plot.near < 9 or rng.chance(0.35):
            continue
        middle = (plot.near + plot.far) / 2
        for lane, heading in ((middle + 1.6, -BESIDE), (middle - 1.6, BESIDE)):
            if rng.chance(0.5):
                across = rng.chance(0.35)
                x = rng.uniform(-8, 8) if across else side.x(rng.uniform(3, 12))
                make = rng.weighted({car: 8, truck: 1, bus: 1})
                turn = rng.uniform(-0.5, 0.5) if across and rng.chance(0.4) else 0.0
                pose = Pose(x=x, z=lane, heading=heading + turn)
                placed.add(vehicle_item(make(rng), pose), gap=0.6)
    if street.zebra:
        for _ in range(rng.weighted({0: 2, 1: 3, 2: 3, 3: 2, 4: 1})):
            pose = Pose(
                x=rng.uniform(street.left.kerb, street.right.kerb),
                z=street.zebra + rng.uniform(0.4, 2.8),
                heading=rng.sign() * BESIDE + rng.uniform(-0.3, 0.3),
            )
            placed.add(person_item(walker(rng), pose))


def place_lane(
    rng: Random, street: Street, placed: Traffic, x: Number, direction: int, busy: Number
):
    """Places cars and a few motorcycles in one lane."""
    own = abs(x) < 1
    z = rng.uniform(8, 30) if own else rng.uniform(4, 25)
    while z < min(110, street.end):
        pose_x = x + rng.uniform(-0.3, 0.3)
        heading = (0.0 if direction == 1 else math.pi) + rng.uniform(-0.04, 0.04)
        far = z > 75
        if rng.chance(0.55 * busy):
            if rng.chance(0.07) and not far:
                pose = Pose(x=pose_x, z=z, heading=heading)
                rider = cyclist(rng, motorised=True)
                placed.add(cycle_item(motorcycle(rng), pose, rider))
            else:
                vehicle = car(rng)
                pose = Pose(x=pose_x, z=z + vehicle.length / 2, heading=heading)
                placed.add(vehicle_item(vehicle, pose, grouped=far), gap=1.2)
                if rng.chance(0.04) and direction == 1:
                    behind = Pose(x=pose_x, z=z - 2.6, heading=heading)
                    if behind.z > 7:
                        placed.add(vehicle_item(towed(rng), behind), gap=0.1)
        z += rng.uniform(7, 22)


def place_parked(rng: Random, street: Street, placed: Traffic, side: Side, busy: Number):
    """Places a row of cars at the kerb; far away they are a group."""
    x = side.x(-PARKING / 2 - 0.05)
    full = rng.uniform(0.45, 0.95) * min(busy + 0.3, 1)
    z = rng.uniform(0.5, 6)
    limit = rng.uniform(45, 80)
    while z < min(120, street.end - 5):
        plot = side.plot_at(z + 2)
        if plot and plot.kind != "side street" and rng.chance(full):
            make = rng.weighted({car: 30, truck: 0.7, towed: 0.35})
            vehicle = make(rng)
            heading = 0.0 if (side.sign == 1) == rng.chance(0.93) else math.pi
            pose = Pose(
                x=x + rng.uniform(-0.12, 0.12),
                z=z + vehicle.length / 2,
                heading=heading + rng.uniform(-0.03, 0.03),
            )
            if pose.z - vehicle.length / 2 > 1.2:
                grouped = z > limit and vehicle.label_id == CAR
                placed.add(vehicle_item(vehicle, pose, grouped=grouped), gap=0.2)
            z += vehicle.length + rng.uniform(0.5, 1.3)
        else:
            z += rng.uniform(3, 7)


def place_riders(rng: Random, street: Street, placed: Traffic):
    """Places cyclists at the edge of the road, now and then a motorcyclist or one who crosses."""
    for _ in range(rng.weighted({0: 2, 1: 3.2, 2: 2.4, 3: 1.3, 4: 0.7})):
        side = rng.choose(street.sides)
        inward = (PARKING + 0.7) if side.parking else rng.uniform(0.5, 1.1)
        on_pavement = rng.chance(0.25)
        x = side.x(rng.uniform(0.6, max(side.walkway[1] - 0.8, 1)) if on_pavement else -inward)
        z = distance(rng, 6, 46)
        heading = 0.0 if side.sign == 1 else math.pi
        heading += rng.uniform(-0.25, 0.25) + (math.pi if rng.chance(0.1) else 0)
        if rng.chance(0.2):
            heading += rng.sign() * rng.uniform(0.6, BESIDE)
        motorised = rng.chance(0.15)
        cycle = motorcycle(rng) if motorised else bicycle(rng)
        pose = Pose(x=x, z=z, heading=heading)
        placed.add(cycle_item(cycle, pose, cyclist(rng, motorised=motorised)))


def place_pavement(rng: Random, placed: Traffic, side: Side, busy: Number):
    """Places people alone, in small groups and in crowds, parked bicycles, prams and dogs."""
    near, far = side.walkway
    x = Spread(side.x(near + 0.5), side.x(max(far - 0.4, near + 0.7)))
    for _ in range(round(rng.uniform(0.5, 11) * busy)):
        start = Pose(
            x=x.somewhere(rng),
            z=distance(rng, 5, 55),
            heading=rng.choose((0.0, math.pi, 0.0, math.pi, BESIDE)) + rng.uniform(-0.3, 0.3),
        )
        for k in range(rng.weighted({1: 6, 2: 3, 3: 1})):
            beside, z = start.x + side.sign * 0.62 * k, start.z + rng.uniform(-0.3, 0.3)
            pose = Pose(x=beside, z=z, heading=start.heading)
            placed.add(person_item(walker(rng), pose), gap=0.02)
    if rng.chance(0.3):
        centre = x.somewhere(rng)
        around = Spread(centre - 1.3, centre + 1.3)
        place_crowd(rng, placed, around, distance(rng, 14, 55), rng.whole(6, 12))
    if rng.chance(0.25):
        place_crowd(rng, placed, x, rng.uniform(60, 100), rng.whole(3, 8), deep=20)
    place_parked_cycles(rng, placed, x)
    if rng.chance(0.3):
        placed.add(dynamic_thing(rng, x.somewhere(rng), distance(rng, 5, 55)))


@dataclass(frozen=True)
class Spread:
    """A range of x."""

    low: Number
    high: Number

    def somewhere(self, rng: Random) -> float:
        """Returns an x in it."""
        return rng.uniform(self.low, self.high)


def distance(rng: Random, low: Number, high: Number) -> float:
    """Returns a distance in that range; near ones are likelier."""
    return low + (high - low) * rng.uniform(0, 1) ** 1.6


def place_crowd(rng: Random, placed: Traffic, x: Spread, z: Number, count: int, deep: Number = 1.5):
    """Places people so close together, or so far away, that they are a group."""
    for _ in range(count):
        pose = Pose(
            x=x.somewhere(rng),
            z=z + rng.uniform(-deep, deep),
            heading=rng.uniform(0, 2 * math.pi),
        )
        placed.add(person_item(walker(rng), pose, grouped=True), gap=-0.1)


def place_parked_cycles(rng: Random, placed: Traffic, x: Spread):
    """Places cycles at the edges of the pavement, and many in a rack as a group."""
    if rng.chance(0.22):
        edge, z = rng.choose((x.low, x.high)), rng.uniform(7, 32)
        across = BESIDE + rng.uniform(-0.2, 0.2)
        for k in range(rng.whole(4, 9)):
            pose = Pose(x=edge, z=z + 0.55 * k, heading=across + rng.uniform(-0.1, 0.1))
            placed.add(cycle_item(bicycle(rng), pose, grouped=True), gap=-0.25)
    for _ in range(rng.weighted({0: 1.5, 1: 2.5, 2: 2.2, 3: 1.6, 4: 1})):
        pose = Pose(
            x=rng.choose((x.low, x.high)),
            z=distance(rng, 5, 40),
            heading=rng.choose((0.0, math.pi, BESIDE)) + rng.uniform(-0.2, 0.2),
        )
        make = motorcycle if rng.chance(0.25) else bicycle
        placed.add(cycle_item(make(rng), pose), gap=0.1)
