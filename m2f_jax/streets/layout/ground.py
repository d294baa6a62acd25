"""Sky and ground of a street scene: clouds, road, markings, tracks, pavement, grass, shadows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Canvas, Color, Patch, Polygon, convex_hull, rasterise
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.texture import mix, noise, stripes
from m2f_jax.streets.drawing.view import Points, View
from m2f_jax.streets.layout.plan import CAR_LANE, PARKING, Side, Street

RAIL_TRACK, ROAD, SIDEWALK, PARKING_SPACE, TERRAIN, SKY = 10, 7, 8, 9, 22, 23
NEAR, FAR = 1.0, 500.0
UP = (0.0, 1.0, 0.0)


def draw_sky(canvas: Canvas, view: View, rng: Random):
    """Draws a gradient with clouds; it covers everything above the horizon, and a little below."""
    weather = view.weather
    height = min(int(view.centre_y) + 2, view.size[0])
    width = view.size[1]
    window = slice(0, height), slice(0, width)
    sky = Patch(window, np.ones((height, width)), (0, 0, width, height))
    above = (view.centre_y - sky.rows).clip(0) / view.focal  # tangent of the elevation
    rise = (above / (above + 0.25))[..., None] * 1.6
    colors = weather.horizon + (weather.zenith - weather.horizon) * rise.clip(0, 1)
    # Clouds lie on a plane above the street, and so become long and flat near the horizon.
    distance = 1 / (above + 0.07)
    x = (sky.columns - view.centre_x) / view.focal * distance
    offset = rng.uniform(0, 500)
    density = noise(x * 70 + offset, distance * 90 + offset) + 0.6 * weather.clouds - 0.25
    density = (density * 2.2).clip(0, 1) * (0.35 + 0.65 * (above / (above + 0.05)))
    light = noise(x * 70 + offset + 9, distance * 90 + offset + 6)
    bright = (weather.ambient + 0.6 * weather.sun).clip(0, 1)
    cloud = bright * (0.94 + 0.22 * light[..., None])
    canvas.paint(sky, mix(colors, cloud, density * 0.85))
    canvas.claim(sky, SKY)


def strip(view: View, x: tuple[Number, Number], z: tuple[Number, Number]) -> Polygon:
    """Returns a rectangle of the plan as pixels, bent with the street."""
    near, far = max(z[0], NEAR), z[1]
    steps = 2 if view.bend == 0 or far - near < 4 else 14
    depths = near * (far / near) ** np.linspace(0, 1, steps)
    left, right = (np.stack([0 * depths + at, 0 * depths, depths], axis=1) for at in x)
    return view.project_plan(np.concatenate([left, right[::-1]]))


def draw_ground(canvas: Canvas, view: View, street: Street, rng: Random):
    """Draws road, pavements, grass and all that is painted on them."""
    asphalt = rng.color((0.40, 0.40, 0.41), (0.34, 0.34, 0.36), (0.46, 0.45, 0.43), spread=0.03)
    paving = rng.color((0.55, 0.53, 0.50), (0.48, 0.47, 0.46), (0.60, 0.53, 0.47))
    kerbstone = rng.color((0.62, 0.61, 0.59))
    grass = rng.color((0.33, 0.42, 0.18), (0.42, 0.43, 0.22), (0.47, 0.42, 0.28))
    left, right = street.left.kerb, street.right.kerb

    def lay(color: Color, label: int, x: tuple[Number, Number], z: tuple[Number, Number]):
        canvas.fill([strip(view, x, z)], view.lit(color, UP, True), label)

    height, width = view.size
    top = view.centre_y
    everywhere = np.array([(0, top), (width, top), (width, height), (0, height)], float)
    base, label = (paving, SIDEWALK) if street.kind == "city" else (grass, TERRAIN)
    canvas.fill([everywhere], view.lit(base, UP, True), label)
    lay(asphalt, ROAD, (left, right), (NEAR, FAR))
    for side in street.sides:
        for plot in side.plots:
            if plot.far <= NEAR:
                continue
            z = plot.near, plot.far
            if plot.kind == "side street":
                lay(asphalt, ROAD, (side.kerb, side.x(60)), z)
                for edge in z:
                    pavement = edge - 2.2 if edge == plot.near else edge
                    lay(paving, SIDEWALK, (side.x(0.1), side.x(60)), (pavement, pavement + 2.2))
                    lay(kerbstone, SIDEWALK, (side.x(0.1), side.x(60)), (edge - 0.08, edge + 0.08))
                continue
            lay(
                grass if plot.kind == "park" or side.garden else paving,
                TERRAIN if plot.kind == "park" or side.garden else SIDEWALK,
                (side.x(0), side.x(70)),
                z,
            )
            lay(paving, SIDEWALK, (side.kerb, side.x(side.walkway[1])), z)
            pave(canvas, view, side, z, slab=0.5)
            if side.verge:
                lay(grass, TERRAIN, (side.x(0.3), side.x(side.verge)), z)
            lay(kerbstone, SIDEWALK, (side.kerb, side.x(0.18)), z)
            lay(asphalt * 0.62, ROAD, (side.x(-0.07), side.kerb), z)
    draw_wear(canvas, view, street, asphalt, rng)
    if street.tracks:
        draw_tracks(canvas, view, street, rng)
    draw_markings(canvas, view, street, rng)
    add_texture(canvas, view, rng)


def pave(canvas: Canvas, view: View, side: Side, z: tuple[Number, Number], slab: Number):
    """Draws joints between the slabs of the pavement."""
    patch = rasterise([strip(view, (side.x(0.18), side.x(side.walkway[1])), z)], view.size)
    if patch is None:
        return
    depth = ground_depth(view, patch.rows)
    x = (patch.columns - view.centre_x) * depth / view.focal - view.bend * depth**2
    per_row = depth**2 / (view.focal * view.height)
    joints = stripes(x, depth / view.focal, slab, 0, 0.02) + stripes(depth, per_row, slab, 0, 0.02)
    canvas.paint(patch, np.zeros(3), 0.35 * joints.clip(0, 1))


def ground_depth(view: View, rows: Float[np.ndarray, "h 1"]) -> Float[np.ndarray, "h 1"]:
    """Returns the distance of the ground in rows of pixels."""
    return view.focal * view.height / (rows - view.centre_y).clip(view.focal * view.height / FAR)


def draw_wear(canvas: Canvas, view: View, street: Street, asphalt: Color, rng: Random):
    """Draws patches, manholes, cracks, and the darker bands where wheels go."""
    color = view.lit(asphalt, UP, True)
    for lane in street.lanes:
        for offset in (-0.8, 0.8):
            x = lane.x + offset
            canvas.fill([strip(view, (x - 0.3, x + 0.3), (NEAR, FAR))], color * 0.9, opacity=0.45)
    for _ in range(rng.whole(1, 6)):
        x, z = rng.uniform(street.left.kerb + 0.5, street.right.kerb - 2), rng.uniform(5, 35)
        shape = strip(view, (x, x + rng.uniform(0.6, 2.4)), (z, z + rng.uniform(1, 9)))
        canvas.fill([shape], color * rng.uniform(0.75, 1.15), opacity=0.8)
    for _ in range(rng.whole(0, 3)):
        x, z = rng.uniform(street.left.kerb, street.right.kerb), rng.uniform(6, 30)
        turns = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        for radius, shade in ((0.36, 0.55), (0.3, 0.8)):
            ring = [(x + radius * np.cos(t), 0, z + radius * np.sin(t)) for t in turns]
            canvas.fill([view.project_plan(ring)], color * shade)
    for _ in range(rng.whole(0, 5)):
        z = rng.uniform(5, 20)
        walk = np.cumsum(rng.fractions(9, 2) - 0.5, axis=0) * rng.uniform(0.3, 0.9)
        walk += [rng.uniform(street.left.kerb + 1, street.right.kerb - 1), z + 2]
        there = [(x, 0, max(z, NEAR)) for x, z in walk]
        back = [(x + 0.025, 0, max(z, NEAR)) for x, z in walk[::-1]]
        canvas.fill([view.project_plan(there + back)], color * 0.55, opacity=0.8)


def draw_tracks(canvas: Canvas, view: View, street: Street, rng: Random):
    """Draws tram tracks, in the road or in a bed of gravel or grass."""
    if street.track_bed:
        bed = rng.color((0.45, 0.41, 0.38), (0.36, 0.42, 0.22))
        edges = min(street.tracks) - 1.5, max(street.tracks) + 1.5
        canvas.fill([strip(view, edges, (NEAR, FAR))], view.lit(bed, UP, True), RAIL_TRACK)
    for track in street.tracks:
        for rail in (track - 0.72, track + 0.72):
            metal = view.lit(np.array([0.34, 0.33, 0.34]), UP, True)
            canvas.fill([strip(view, (rail - 0.07, rail + 0.07), (NEAR, FAR))], metal * 0.7)
            canvas.fill([strip(view, (rail - 0.03, rail + 0.03), (NEAR, FAR))], metal * 1.5)


def draw_markings(canvas: Canvas, view: View, street: Street, rng: Random):
    """Draws lines between lanes and parking spaces, a zebra crossing, a stop line, arrows."""
    paint = view.lit(rng.color((0.85, 0.85, 0.83)), UP, True)
    opacity = rng.uniform(0.5, 0.95)
    shapes = []
    ahead = sorted(lane.x for lane in street.lanes if lane.direction == 1)
    coming = sorted(lane.x for lane in street.lanes if lane.direction == -1)
    marked = rng.chance(0.8)
    phase = rng.uniform(0, 9)
    for xs in (ahead, coming):
        for x in xs[1:]:
            shapes += dashes(view, x - CAR_LANE / 2, 3, 9, phase, street.end)
    if coming and not street.track_bed and marked:
        x = ahead[0] - CAR_LANE / 2
        if street.tracks or rng.chance(0.3):
            shapes.append(strip(view, (x - 0.06, x + 0.06), (NEAR, street.end)))
        else:
            shapes += dashes(view, x, 3, 9, phase, street.end)
    bays = rng.chance(0.5)
    different = rng.color((0.40, 0.38, 0.37), (0.50, 0.47, 0.44)) if rng.chance(0.4) else None
    for side in street.sides:
        edge = side.x(-0.4)
        if side.parking:
            inner = side.x(-PARKING - 0.15)
            if different is not None:
                for plot in side.plots:
                    if plot.kind != "side street" and plot.far > NEAR:
                        canvas.fill(
                            [strip(view, (inner, side.x(-0.07)), (plot.near, plot.far))],
                            view.lit(different, UP, True),
                            PARKING_SPACE,
                        )
            if bays:
                shapes.append(strip(view, (inner - 0.05, inner + 0.05), (NEAR, street.end)))
                for k in range(1, 12):
                    shapes.append(strip(view, (inner, side.kerb), (6.2 * k, 6.2 * k + 0.1)))
        elif marked and street.kind != "city":
            shapes.append(strip(view, (edge - 0.06, edge + 0.06), (NEAR, street.end)))
    if street.zebra:
        left, right = street.left.x(-0.4), street.right.x(-0.4)
        for x in np.arange(left, right - 0.5, 1.0).tolist():
            shapes.append(strip(view, (x, x + 0.5), (street.zebra, street.zebra + 3.2)))
        own = -CAR_LANE / 2, street.right.x(-PARKING if street.right.parking else -0.3)
        shapes.append(strip(view, own, (street.zebra - 1.6, street.zebra - 1.2)))
    canvas.fill(shapes, paint, opacity=opacity) if shapes else None


def dashes(
    view: View, x: Number, length: Number, period: Number, phase: Number, end: Number
) -> list[Polygon]:
    """Returns the dashes of a broken line along the street."""
    starts = np.arange(phase - period, end, period).tolist()
    return [strip(view, (x - 0.07, x + 0.07), (z, z + length)) for z in starts if z + length > NEAR]


def add_texture(canvas: Canvas, view: View, rng: Random):
    """Adds grain, stains, blades of grass, and haze far away."""
    top = min(max(int(view.centre_y) + 1, 0), view.size[0])
    window = slice(top, view.size[0]), slice(0, view.size[1])
    owner = canvas.owner[window]
    patch = Patch(window, np.ones(owner.shape), (0, 0, 0, 0))
    depth = ground_depth(view, patch.rows)
    x = (patch.columns - view.centre_x) * depth / view.focal + rng.uniform(0, 99)
    z = depth + rng.uniform(0, 99)
    near = (25 / depth).clip(0, 1)
    grain = noise(x * 50, z * 50, fine=True) * near
    stains = noise(x * 9, z * 4)
    clumps = noise(x * 30, z * 14)
    grassy = owner == TERRAIN
    change = np.where(grassy, 0.20 * grain + 0.55 * clumps, 0.09 * grain + 0.22 * stains)
    image = canvas.image[window]
    image *= (1 + change.astype(np.float32))[..., None]
    image += (0.10 * np.where(grassy, stains, 0)[..., None] * np.array([1, 0.4, 0])).astype("f4")
    haze = view.haziness(depth)[..., None].astype(np.float32)
    image += (view.weather.horizon.astype(np.float32) - image) * haze


def draw_shadows(
    canvas: Canvas,
    view: View,
    cast: Sequence[Points],
    contact: Sequence[tuple[Number, Number, Number, Number]],
):
    """Darkens the ground.

    Args:
        canvas: the picture, with the ground on it and nothing that stands there yet.
        view: the camera and the sun.
        cast: the points of the body that throws each shadow.
        contact: rectangles (left, right, near, far) of the plan on which bodies stand.
    """
    dark = np.zeros(view.size)
    hulls = []
    for points in cast:
        fallen = view.shadow_of(points)
        if fallen[:, 2].max() > NEAR and fallen[:, 2].min() < 150:
            fallen[:, 2] = fallen[:, 2].clip(NEAR)
            hulls.append(convex_hull(view.project_plan(fallen)))
    sun = float(view.weather.sun.mean())
    if hulls and (patch := rasterise(hulls, view.size)):
        dark[patch.window] = patch.alpha * sun / (sun + view.weather.ambient.mean())
    for grow, share in ((0.35, 0.16), (0.15, 0.2), (-0.05, 0.25), (-0.3, 0.25)):
        shapes = [
            strip(view, (left - grow, right + grow), (near - grow, far + grow))
            for left, right, near, far in contact
            if right - left > -2 * grow and far - near > -2 * grow and near < 120
        ]
        if shapes and (patch := rasterise(shapes, view.size)):
            dark[patch.window] = 1 - (1 - dark[patch.window]) * (1 - patch.alpha * share)
    ground = canvas.owner != SKY
    radius = max(1, view.size[1] // 600)
    for _ in range(2):
        dark = box_blur(box_blur(dark, radius).T, radius).T
    tint = np.array([1.03, 1.0, 0.94])  # what is left is light of the sky
    factor = 1 - (dark * ground)[..., None] * tint
    canvas.image *= factor.clip(0.05, 1).astype(np.float32)


def box_blur(values: Float[np.ndarray, "h w"], radius: int) -> Float[np.ndarray, "h w"]:
    """Returns the mean of every value and its neighbours above and below."""
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    total = sum(padded[k : k + len(values)] for k in range(2 * radius + 1))
    return np.asarray(total) / (2 * radius + 1)
