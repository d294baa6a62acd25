"""The camera, the light and the air of a street scene.

World coordinates are metres: x to the right, y up from the ground, z ahead. Streets are laid out
straight; `bent` lays a point of such a plan into the bend of the street that is seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Color, Polygon
from m2f_jax.streets.drawing.randomness import Number, Random

NEAREST = 0.5  # metres; what is nearer to the camera is drawn as if it were there

Points = Float[np.ndarray, "n 3"]


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Light and air. The light on a surface is ambient + sun * cosine of the angle."""

    ambient: Color
    sun: Color
    sun_direction: tuple[Number, Number, Number]
    zenith: Color
    horizon: Color
    clouds: Number
    clear_sight: Number
    """The distance in metres at which things look half like the haze."""
    dark: bool


@dataclass(frozen=True, kw_only=True)
class View:
    """A pinhole camera in the weather."""

    size: tuple[int, int]
    focal: Number
    centre_x: Number
    centre_y: Number
    height: Number
    bend: Number
    weather: Weather

    def bent(self, points: Points) -> Points:
        """Moves points of the plan into the bend of the street."""
        moved = points.copy()
        moved[:, 0] += self.bend * points[:, 2] ** 2
        return moved

    def project(self, points: Points) -> Polygon:
        """Projects points of the world to pixels."""
        pixels = np.empty((len(points), 2))
        scale = self.focal / points[:, 2].clip(NEAREST)
        pixels[:, 0] = self.centre_x + scale * points[:, 0]
        pixels[:, 1] = self.centre_y + scale * (self.height - points[:, 1])
        return pixels

    def project_plan(self, points: Sequence[tuple[Number, Number, Number]] | Points) -> Polygon:
        """Projects points of the plan to pixels."""
        x, y, z = np.asarray(points, float).T
        pixels = np.empty((len(x), 2))
        scale = self.focal / z.clip(NEAREST)
        pixels[:, 0] = self.centre_x + scale * (x + self.bend * z**2)
        pixels[:, 1] = self.centre_y + scale * (self.height - y)
        return pixels

    def scale(self, z: Number) -> float:
        """Returns pixels per metre at that distance."""
        return self.focal / max(z, NEAREST)

    def lit(self, color: Color, normal: tuple[Number, Number, Number], sunlit: bool) -> Color:
        """Returns a surface's color in this light."""
        cosine = sum(a * b for a, b in zip(normal, self.weather.sun_direction, strict=True))
        light = self.weather.ambient * (0.86 + 0.14 * normal[1])
        if sunlit:
            light = light + self.weather.sun * max(cosine, 0)
        return color * light

    def hazy(self, color: Color, z: Number) -> Color:
        """Returns a color as seen through the air, at a distance."""
        share = z * z / (z * z + self.weather.clear_sight**2)
        return color + (self.weather.horizon - color) * share

    def seen(
        self,
        color: Color,
        z: Number,
        sunlit: bool,
        normal: tuple[Number, Number, Number] = (0, 0, -1),
    ) -> Color:
        """Returns a surface's color in this light at a distance; by default it faces the camera."""
        return self.hazy(self.lit(color, normal, sunlit), z)

    def haziness(self, z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Returns the share of the horizon's color at distances."""
        return z * z / (z * z + self.weather.clear_sight**2)

    def shadow_of(self, points: Points) -> Points:
        """Returns where on the ground the shadows of points fall."""
        x, y, z = points.T
        sx, sy, sz = self.weather.sun_direction
        return np.stack([x - y * sx / sy, 0 * y, (z - y * sz / sy)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """The place of a body in the plan, and its direction; 0 looks ahead, pi/2 right."""

    x: Number
    z: Number
    heading: Number

    def world(self, points: Points) -> Points:
        """Converts points of the body to the plan."""
        x, y, z = points.T
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return np.stack([self.x + x * cos + z * sin, y, self.z - x * sin + z * cos], axis=1)

    def footprint(self, width: Number, length: Number) -> tuple[Number, Number, Number, Number]:
        """Returns the rectangle of the plan around a body of that size."""
        cos, sin = abs(math.cos(self.heading)), abs(math.sin(self.heading))
        x, z = (width * cos + length * sin) / 2, (width * sin + length * cos) / 2
        return self.x - x, self.x + x, self.z - z, self.z + z


def random_view(rng: Random, size: tuple[int, int]) -> View:
    """Returns a camera behind the windscreen of a car, on some day."""
    height, width = size
    scale = max(width, 2 * height)
    return View(
        size=size,
        focal=scale * rng.uniform(0.98, 1.15),
        centre_x=width / 2 + scale * rng.uniform(-0.06, 0.06),
        centre_y=height * rng.uniform(0.40, 0.47),
        height=rng.uniform(1.2, 1.45),
        bend=rng.choose((0.0, 1.0, -1.0)) * rng.uniform(0.0003, 0.0018),
        weather=random_weather(rng),
    )


def random_weather(rng: Random) -> Weather:
    """Returns sun, clouds, haze or dusk."""
    kind = rng.weighted({"sunny": 3, "overcast": 4, "low sun": 1.5, "haze": 1, "dusk": 0.8})
    azimuth = rng.uniform(0, 2 * math.pi)
    elevation = math.radians(rng.uniform(10, 20) if kind == "low sun" else rng.uniform(28, 62))
    ambient, sun, zenith, horizon, clouds, sight = {
        "sunny": ((0.50, 0.54, 0.61), (0.66, 0.61, 0.52), (0.30, 0.50, 0.80), (0.78, 0.86, 0.93),
            rng.uniform(0.1, 0.6), 500),
        "overcast": ((0.84, 0.86, 0.88), (0.10, 0.10, 0.10), (0.74, 0.77, 0.81), (0.88, 0.89, 0.90),
            rng.uniform(0.6, 1.0), 300),
        "low sun": ((0.44, 0.46, 0.54), (0.80, 0.62, 0.40), (0.42, 0.55, 0.76), (0.97, 0.87, 0.70),
            rng.uniform(0.1, 0.7), 300),
        "haze": ((0.76, 0.77, 0.78), (0.18, 0.17, 0.15), (0.82, 0.84, 0.86), (0.86, 0.87, 0.87),
            rng.uniform(0.2, 0.5), 110),
        "dusk": ((0.40, 0.42, 0.50), (0.03, 0.03, 0.03), (0.27, 0.34, 0.50), (0.66, 0.58, 0.58),
            rng.uniform(0.3, 0.9), 250),
    }[kind]  # fmt: skip
    return Weather(
        ambient=np.array(ambient) * rng.uniform(0.92, 1.08),
        sun=np.array(sun),
        sun_direction=(
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
            math.cos(elevation) * math.cos(azimuth),
        ),
        zenith=rng.color(zenith),
        horizon=rng.color(horizon, spread=0.04),
        clouds=clouds,
        clear_sight=sight * rng.uniform(0.8, 1.3),
        dark=kind == "dusk",
    )
