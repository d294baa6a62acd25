"""Surroundings of a street: buildings, gardens, trees, fences, lamps, signs, bins."""

from m2f_jax.streets.drawing.randomness import Random
from m2f_jax.streets.drawing.stage import Item
from m2f_jax.streets.layout.plan import Plot, Side, Street
from m2f_jax.streets.things.buildings import building, closing_building, random_style
from m2f_jax.streets.things.furniture import barrier, bollard, lamp, static_thing
from m2f_jax.streets.things.greenery import bush, hedge, random_leaves, tree
from m2f_jax.streets.things.signs import traffic_light, traffic_sign

NEAREST = 3.5  # metres; nothing stands nearer to the camera


def surroundings(rng: Random, street: Street) -> list[Item]:
    """Returns everything that stands beside the road and doesn't move."""
    leaves = random_leaves(rng)
    items = close_street(rng, street)
    for side in street.sides:
        for plot in side.plots:
            if plot.kind == "houses":
                items += houses(rng, street, side, plot)
            elif plot.kind == "park":
                items += park(rng, side, plot)
        items += furniture(rng, street, side)
        if side.verge or (side.pavement > 3 and rng.chance(0.45)):
            offset = side.verge / 2 if side.verge else 0.8
            z, step = rng.uniform(5, 14), rng.uniform(7, 14)
            height = rng.uniform(5, 11)
            while z < street.end:
                plot = side.plot_at(z)
                if plot and plot.kind != "side street" and rng.chance(0.85):
                    tall = height * rng.uniform(0.85, 1.15)
                    items.append(tree(rng, side.x(offset), z, leaves, tall))
                z += step * rng.uniform(0.8, 1.2)
    return items


def close_street(rng: Random, street: Street) -> list[Item]:
    """Returns what closes the street at its far end."""
    items: list[Item] = []
    x = street.left.kerb - 75
    green = rng.chance(0.45)
    if green:
        leaves = random_leaves(rng)
        while x < street.right.kerb + 75:
            z = street.end + rng.uniform(0, 25)
            items.append(tree(rng, x, z, leaves, rng.uniform(8, 18)))
            x += rng.uniform(3, 6)
    else:
        while x < street.right.kerb + 75:
            width = rng.uniform(12, 24)
            style = random_style(rng, street.kind)
            items.append(closing_building((x, x + width), street.end + rng.uniform(8, 16), style))
            x += width
    for side in street.sides:  # the far side of side streets
        for plot in side.plots:
            if plot.kind == "side street" and rng.chance(0.8):
                start = side.x(side.building_line + 12)
                for k in range(3):
                    at = start + side.sign * 14 * k, start + side.sign * 14 * (k + 1)
                    style = random_style(rng, street.kind)
                    items.append(closing_building((min(at), max(at)), plot.far + 4, style))
    return items


def houses(rng: Random, street: Street, side: Side, plot: Plot) -> list[Item]:
    """Returns buildings wall to wall in a city; with gardens in a suburb."""
    items = []
    line = side.x(side.building_line)
    z = plot.near
    while z < plot.far - 3:
        if street.kind == "suburb":
            length, gap = rng.uniform(8, 14), rng.uniform(2, 6)
        else:
            length, gap = rng.uniform(10, 24), 0.0
            if rng.chance(0.06):
                z += rng.uniform(2, 5)
        far = min(z + length, plot.far)
        if far > 2:
            items.append(building(side.sign, line, z, far, random_style(rng, street.kind)))
        if gap and z > NEAREST:
            for _ in range(rng.whole(0, 2)):
                x = side.x(side.building_line + rng.uniform(0, 6))
                leaves = random_leaves(rng)
                items.append(tree(rng, x, far + gap / 2, leaves, rng.uniform(4, 9)))
        z = far + gap
    if side.garden:
        items += garden(rng, side, plot)
    return items


def garden(rng: Random, side: Side, plot: Plot) -> list[Item]:
    """Returns the edge of front gardens and the plants behind it."""
    items: list[Item] = []
    edge = side.walkway[1] + 0.25
    z = max(plot.near, NEAREST)
    while z < plot.far - 2:
        far = min(z + rng.uniform(8, 14), plot.far)
        kind = rng.weighted({"hedge": 3, "fence": 2.5, "wall": 1.5, "open": 1})
        if kind == "hedge":
            at = side.x(edge), side.x(edge + 0.8)
            items.append(
                hedge(
                    rng,
                    (min(at), max(at), z, far - 1.5),
                    random_leaves(rng),
                    rng.uniform(0.8, 1.7),
                )
            )
        elif kind != "open":
            ends = (side.x(edge), far - 1.2), (side.x(edge), z)
            items.append(barrier(rng, *ends, solid=kind == "wall"))
        for _ in range(rng.whole(0, 2)):
            if side.garden > 3:
                at = side.x(edge + rng.uniform(1.2, side.garden - 0.8)), rng.uniform(z, far)
                items.append(bush(rng, *at, random_leaves(rng), rng.uniform(0.8, 1.8)))
        z = far
    return items


def park(rng: Random, side: Side, plot: Plot) -> list[Item]:
    """Returns trees and bushes, perhaps behind a fence or a wall."""
    items: list[Item] = []
    start = side.walkway[1]
    near = max(plot.near, NEAREST)
    if plot.far - near < 2:
        return items
    leaves = random_leaves(rng)
    if rng.chance(0.5):
        ends = (side.x(start + 0.3), plot.far), (side.x(start + 0.3), near)
        items.append(barrier(rng, *ends, solid=rng.chance(0.4)))
    for _ in range(int((plot.far - near) / rng.uniform(3.5, 7)) + 1):
        x, z = side.x(start + rng.uniform(2, 12)), rng.uniform(near + 2, plot.far)
        items.append(tree(rng, x, z, leaves, rng.uniform(6, 14)))
    for _ in range(rng.whole(1, 6)):
        x, z = side.x(start + rng.uniform(1.5, 8)), rng.uniform(near, plot.far)
        items.append(bush(rng, x, z, random_leaves(rng), rng.uniform(0.8, 2.2)))
    if rng.chance(0.7):  # a belt of trees closes the view
        z = near
        while z < plot.far:
            items.append(
                tree(rng, side.x(start + rng.uniform(15, 24)), z, leaves, rng.uniform(9, 16))
            )
            z += rng.uniform(3, 6)
    return items


def furniture(rng: Random, street: Street, side: Side) -> list[Item]:
    """Returns lamps, signs, bollards and other things at the kerb."""
    items = []
    kerb = 0.45
    z, step = rng.uniform(6, 24), rng.uniform(20, 32)
    if rng.chance(0.75):
        while z < street.end:
            items.append(lamp(rng, side.x(kerb + 0.1), z, -side.sign))
            z += step
    z = rng.uniform(7, 25)
    for _ in range(rng.weighted({0: 1, 1: 2, 2: 3, 3: 2, 4: 1})):
        items.append(traffic_sign(rng, side.x(kerb), z))
        z += rng.uniform(3, 22)
    for plot in side.plots:
        if plot.kind == "side street" and plot.near > 8 and rng.chance(0.8):
            arm = rng.chance(0.4)
            items.append(traffic_light(rng, side.x(kerb), plot.near - 1, -side.sign, arm=arm))
            items.append(traffic_light(rng, side.x(kerb), plot.far + 1, -side.sign, arm=False))
    if street.zebra and rng.chance(0.5):
        items.append(traffic_light(rng, side.x(kerb), street.zebra - 0.8, -side.sign, arm=False))
    for _ in range(rng.whole(0, 3)):
        plot = side.plot_at(z := rng.uniform(6, 45))
        if plot and plot.kind != "side street":
            items.append(static_thing(rng, side.x(max(side.walkway[1] - 0.6, 0.8)), z))
    if not side.verge and rng.chance(0.25):
        z = rng.uniform(5, 15)
        for _ in range(rng.whole(4, 9)):
            items.append(bollard(rng, side.x(0.4), z))
            z += 1.6
    return items
