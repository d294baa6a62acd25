"""The plan of a street as seen from above: lanes, tracks, pavements and plots.

Distances are metres from the camera, x to the right and z along the street.
"""

from dataclasses import dataclass

from m2f_jax.streets.drawing.randomness import Number, Random

CAR_LANE = 3.2
PARKING = 2.1


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A lane of traffic: its middle, and 1 if traffic goes ahead, -1 if it comes."""

    x: Number
    direction: int


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A piece of land beside the pavement: "houses", "park", or a "side street"."""

    kind: str
    near: Number
    far: Number


@dataclass(frozen=True, kw_only=True)
class Side:
    """What lies on one side of the road; distances grow away from the road."""

    sign: int
    """-1 on the left, 1 on the right."""
    kerb: Number
    """The x of the edge of the road."""
    parking: bool
    """Whether cars stand along the kerb, on the road."""
    verge: Number
    """The width of the green strip behind the kerb; 0: there is none."""
    pavement: Number
    """The width of the pavement behind that."""
    garden: Number
    """The width of front gardens between pavement and houses."""
    plots: tuple[Plot, ...]

    def x(self, distance: Number) -> float:
        """Returns the x at a distance from the kerb, away from the road."""
        return self.kerb + self.sign * distance

    @property
    def walkway(self) -> tuple[Number, Number]:
        """How far from the kerb the pavement begins and ends."""
        return self.verge, self.verge + self.pavement

    @property
    def building_line(self) -> float:
        """How far from the kerb the houses stand."""
        return self.verge + self.pavement + self.garden

    def plot_at(self, z: Number) -> Plot | None:
        """Returns the plot at a distance `z`; None if there is none."""
        return next((plot for plot in self.plots if plot.near <= z < plot.far), None)


@dataclass(frozen=True, kw_only=True)
class Street:
    """One street."""

    kind: str
    """ "city", "suburb" or "avenue"."""
    lanes: tuple[Lane, ...]
    tracks: tuple[Number, ...]
    """The x of the middle of tram tracks."""
    track_bed: bool
    """Whether the tracks lie in gravel of their own instead of the road."""
    left: Side
    right: Side
    zebra: Number | None
    """The z at which a zebra crossing begins."""
    end: Number
    """The z of what closes the street."""

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right


def plan_street(rng: Random) -> Street:
    """Returns a street with the camera in one of its lanes."""
    kind = rng.weighted({"city": 5, "suburb": 3, "avenue": 2.5})
    ahead = 2 if kind != "suburb" and rng.chance(0.3) else 1
    coming = ahead if rng.chance(0.8) else 0
    own = rng.whole(1, ahead)  # lanes to the left of this lane's right edge, going ahead
    left_edge = -CAR_LANE * (own - 0.5)
    right_edge = CAR_LANE * (ahead - own + 0.5)
    lanes = [Lane(x=left_edge + CAR_LANE * (k + 0.5), direction=1) for k in range(ahead)]
    tracks: tuple[Number, ...] = ()
    bed = False
    if kind != "suburb" and coming and rng.chance(0.38):
        bed = rng.chance(0.5)
        tracks = (left_edge - 1.7, left_edge - 4.9)
        left_edge -= 6.6
    lanes += [Lane(x=left_edge - CAR_LANE * (k + 0.5), direction=-1) for k in range(coming)]
    left_edge -= CAR_LANE * coming

    end = rng.uniform(90, 190)
    junction = rng.uniform(14, 75) if rng.chance(0.6) else None
    sides = {}
    for sign, edge in ((-1, left_edge), (1, right_edge)):
        parking = rng.chance(0.6)
        sides[sign] = Side(
            sign=sign,
            kerb=edge + sign * ((PARKING if parking else 0) + rng.uniform(0.2, 0.8)),
            parking=parking,
            verge=rng.uniform(1.2, 2.5) if kind != "city" and rng.chance(0.45) else 0.0,
            pavement=rng.uniform(1.8, 3.2) if kind == "suburb" else rng.uniform(2.4, 5.0),
            garden=rng.uniform(2, 6) if kind == "suburb" else 0.0,
            plots=plan_plots(rng, kind, junction, end),
        )
    zebra = None
    if rng.chance(0.35):
        zebra = junction - 5 if junction and junction > 15 else rng.uniform(9, 30)
    return Street(
        kind=kind,
        lanes=tuple(lanes),
        tracks=tracks,
        track_bed=bed,
        left=sides[-1],
        right=sides[1],
        zebra=zebra,
        end=end,
    )


def plan_plots(rng: Random, kind: str, junction: Number | None, end: Number) -> tuple[Plot, ...]:
    """Returns the plots along one side."""
    green = {"city": 0.12, "suburb": 0.3, "avenue": 0.4}[kind]
    plots = []
    z = -4.0
    while z < end:
        length = rng.uniform(14, 45)
        far = z + length
        if junction and z < junction < far + 8 and rng.chance(0.85):
            far = max(junction, z + 0.1)
            plots.append(Plot(kind="houses", near=z, far=far))
            z = far + rng.uniform(7, 11)
            plots.append(Plot(kind="side street", near=far, far=z))
            junction = None
            continue
        plots.append(Plot(kind="park" if rng.chance(green) else "houses", near=z, far=far))
        z = far
    return tuple(plots)
