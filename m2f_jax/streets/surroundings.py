"""What lines a street: buildings, gardens, trees, hedges, fences, lamps, signs, bins."""

from m2f_jax.streets.buildings import building, closing_building, random_style
from m2f_jax.streets.dice import Dice
from m2f_jax.streets.furniture import barrier, bollard, lamp, static_thing
from m2f_jax.streets.greenery import bush, hedge, random_leaves, tree
from m2f_jax.streets.plan import Plot, Side, Street
from m2f_jax.streets.signs import traffic_light, traffic_sign
from m2f_jax.streets.stage import Item

NEAREST = 3.5  # metres; nothing stands nearer to the camera


def surroundings(dice: Dice, street: Street) -> list[Item]:
    """Everything that stands beside the road and doesn't move."""
    leaves = random_leaves(dice)
    items = close_street(dice, street)
    for side in street.sides:
        for plot in side.plots:
            if plot.kind == "houses":
                items += houses(dice, street, side, plot)
            elif plot.kind == "park":
                items += park(dice, side, plot)
        items += furniture(dice, street, side)
        if side.verge or (side.pavement > 3 and dice.chance(0.45)):
            offset = side.verge / 2 if side.verge else 0.8
            z, step = dice.uniform(5, 14), dice.uniform(7, 14)
            height = dice.uniform(5, 11)
            while z < street.end:
                plot = side.plot_at(z)
                if plot and plot.kind != "side street" and dice.chance(0.85):
                    tall = height * dice.uniform(0.85, 1.15)
                    items.append(tree(dice, side.x(offset), z, leaves, tall))
                z += step * dice.uniform(0.8, 1.2)
    return items


def close_street(dice: Dice, street: Street) -> list[Item]:
    """What is seen at the far end."""
    items: list[Item] = []
    x = street.left.kerb - 75
    green = dice.chance(0.45)
    if green:
        leaves = random_leaves(dice)
        while x < street.right.kerb + 75:
            z = street.end + dice.uniform(0, 25)
            items.append(tree(dice, x, z, leaves, dice.uniform(8, 18)))
            x += dice.uniform(3, 6)
    else:
        while x < street.right.kerb + 75:
            width = dice.uniform(12, 24)
            style = random_style(dice, street.kind)
            items.append(closing_building((x, x + width), street.end + dice.uniform(8, 16), style))
            x += width
    for side in street.sides:  # the far side of side streets
        for plot in side.plots:
            if plot.kind == "side street" and dice.chance(0.8):
                start = side.x(side.building_line + 12)
                for k in range(3):
                    at = start + side.sign * 14 * k, start + side.sign * 14 * (k + 1)
                    style = random_style(dice, street.kind)
                    items.append(closing_building((min(at), max(at)), plot.far + 4, style))
    return items


def houses(dice: Dice, street: Street, side: Side, plot: Plot) -> list[Item]:
    """Buildings wall to wall in a city; with gardens in a suburb."""
    items = []
    line = side.x(side.building_line)
    z = plot.near
    while z < plot.far - 3:
        if street.kind == "suburb":
            length, gap = dice.uniform(8, 14), dice.uniform(2, 6)
        else:
            length, gap = dice.uniform(10, 24), 0.0
            if dice.chance(0.06):
                z += dice.uniform(2, 5)
        far = min(z + length, plot.far)
        if far > 2:
            items.append(building(side.sign, line, z, far, random_style(dice, street.kind)))
        if gap and z > NEAREST:
            for _ in range(dice.whole(0, 2)):
                x = side.x(side.building_line + dice.uniform(0, 6))
                leaves = random_leaves(dice)
                items.append(tree(dice, x, far + gap / 2, leaves, dice.uniform(4, 9)))
        z = far + gap
    if side.garden:
        items += garden(dice, side, plot)
    return items


def garden(dice: Dice, side: Side, plot: Plot) -> list[Item]:
    """The edge of front gardens, and what grows behind it."""
    items: list[Item] = []
    edge = side.walkway[1] + 0.25
    z = max(plot.near, NEAREST)
    while z < plot.far - 2:
        far = min(z + dice.uniform(8, 14), plot.far)
        kind = dice.weighted({"hedge": 3, "fence": 2.5, "wall": 1.5, "open": 1})
        if kind == "hedge":
            at = side.x(edge), side.x(edge + 0.8)
            items.append(
                hedge(
                    dice,
                    (min(at), max(at), z, far - 1.5),
                    random_leaves(dice),
                    dice.uniform(0.8, 1.7),
                )
            )
        elif kind != "open":
            ends = (side.x(edge), far - 1.2), (side.x(edge), z)
            items.append(barrier(dice, *ends, solid=kind == "wall"))
        for _ in range(dice.whole(0, 2)):
            if side.garden > 3:
                at = side.x(edge + dice.uniform(1.2, side.garden - 0.8)), dice.uniform(z, far)
                items.append(bush(dice, *at, random_leaves(dice), dice.uniform(0.8, 1.8)))
        z = far
    return items


def park(dice: Dice, side: Side, plot: Plot) -> list[Item]:
    """Trees and bushes, perhaps behind a fence or a wall."""
    items: list[Item] = []
    start = side.walkway[1]
    near = max(plot.near, NEAREST)
    if plot.far - near < 2:
        return items
    leaves = random_leaves(dice)
    if dice.chance(0.5):
        ends = (side.x(start + 0.3), plot.far), (side.x(start + 0.3), near)
        items.append(barrier(dice, *ends, solid=dice.chance(0.4)))
    for _ in range(int((plot.far - near) / dice.uniform(3.5, 7)) + 1):
        x, z = side.x(start + dice.uniform(2, 12)), dice.uniform(near + 2, plot.far)
        items.append(tree(dice, x, z, leaves, dice.uniform(6, 14)))
    for _ in range(dice.whole(1, 6)):
        x, z = side.x(start + dice.uniform(1.5, 8)), dice.uniform(near, plot.far)
        items.append(bush(dice, x, z, random_leaves(dice), dice.uniform(0.8, 2.2)))
    if dice.chance(0.7):  # a belt of trees closes the view
        z = near
        while z < plot.far:
            items.append(
                tree(dice, side.x(start + dice.uniform(15, 24)), z, leaves, dice.uniform(9, 16))
            )
            z += dice.uniform(3, 6)
    return items


def furniture(dice: Dice, street: Street, side: Side) -> list[Item]:
    """What stands at the kerb."""
    items = []
    kerb = 0.45
    z, step = dice.uniform(6, 24), dice.uniform(20, 32)
    if dice.chance(0.75):
        while z < street.end:
            items.append(lamp(dice, side.x(kerb + 0.1), z, -side.sign))
            z += step
    z = dice.uniform(7, 25)
    for _ in range(dice.weighted({0: 1, 1: 2, 2: 3, 3: 2, 4: 1})):
        items.append(traffic_sign(dice, side.x(kerb), z))
        z += dice.uniform(3, 22)
    for plot in side.plots:
        if plot.kind == "side street" and plot.near > 8 and dice.chance(0.8):
            arm = dice.chance(0.4)
            items.append(traffic_light(dice, side.x(kerb), plot.near - 1, -side.sign, arm=arm))
            items.append(traffic_light(dice, side.x(kerb), plot.far + 1, -side.sign, arm=False))
    if street.zebra and dice.chance(0.5):
        items.append(traffic_light(dice, side.x(kerb), street.zebra - 0.8, -side.sign, arm=False))
    for _ in range(dice.whole(0, 3)):
        plot = side.plot_at(z := dice.uniform(6, 45))
        if plot and plot.kind != "side street":
            items.append(static_thing(dice, side.x(max(side.walkway[1] - 0.6, 0.8)), z))
    if not side.verge and dice.chance(0.25):
        z = dice.uniform(5, 15)
        for _ in range(dice.whole(4, 9)):
            items.append(bollard(dice, side.x(0.4), z))
            z += 1.6
    return items
