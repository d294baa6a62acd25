"""Colors for things and classes: far apart for the eye, and stable for a list of classes."""

import functools
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

# For things: easy to tell apart, from each other and from most photographs; the best come first.
VIVID_COLORS = np.frombuffer(
    bytes.fromhex(
        "2882ff ff8c19 3cc350 eb55e1 00cdeb ff504b f5d732 966eff afe12d ff82af "
        "00b99b cd8c4b 78afff eb3c8c 78ebaa c8a0ff afa52d ffaf82 50a5be be69c8"
    ),
    np.uint8,
).reshape(-1, 3)

# What people expect some classes to look like, by words in their names.
FAMILIAR_COLORS = (
    ("sky", (100, 155, 220)),
    ("tree vegetation plant palm", (85, 140, 65)),
    ("grass terrain field", (150, 185, 95)),
    ("water sea river lake pool", (50, 130, 165)),
    ("road street", (125, 80, 135)),
    ("sidewalk pavement path floor", (195, 125, 185)),
    ("building house wall", (150, 140, 130)),
    ("sand earth dirt ground", (200, 165, 110)),
    ("person rider", (215, 60, 85)),
    ("car", (60, 100, 205)),
    ("truck bus train", (40, 150, 190)),
    ("light", (245, 170, 50)),
    ("sign signboard", (225, 210, 70)),
)


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns white for dark backgrounds, black for light ones."""
    lightness = oklab(np.array([background], np.uint8))[0, 0]
    return (0, 0, 0) if lightness > 0.6 else (255, 255, 255)


def thing_colors(
    image: UInt8[np.ndarray, "height width 3"], boxes: Int[np.ndarray, "N 4"]
) -> UInt8[np.ndarray, "N 3"]:
    """Returns a vivid color per box, unlike those of nearby boxes and unlike the image there.

    Boxes are left, top, right and bottom in pixels.
    """
    lab = oklab(VIVID_COLORS)
    reach = 0.1 * float(np.hypot(*image.shape[:2]))
    chosen = np.zeros(len(boxes), int)
    for i, (left, top, right, bottom) in enumerate(boxes):
        others = boxes[:i]
        gap_x = np.maximum(others[:, 0] - right, left - others[:, 2]).clip(0)
        gap_y = np.maximum(others[:, 1] - bottom, top - others[:, 3]).clip(0)
        closeness = 0.25 + np.exp(-np.hypot(gap_x, gap_y) / reach)
        background = oklab(image[top : bottom + 1 : 4, left : right + 1 : 4].reshape(-1, 3))
        far_off = np.linalg.norm(lab - background.mean(axis=0), axis=-1)
        distance = np.linalg.norm(lab[:, None] - lab[chosen[:i]], axis=-1)
        cost = np.exp(-((distance / 0.12) ** 2)) @ closeness + np.exp(-((far_off / 0.12) ** 2)) / 2
        chosen[i] = (cost + 5e-3 * np.arange(len(lab))).argmin()
    return VIVID_COLORS[chosen]


@functools.lru_cache
def class_colors(
    class_names: tuple[str, ...], *, muted: bool = False
) -> UInt8[np.ndarray, "classes 3"]:
    """Returns one color per class: distinct, and near the familiar one where its name has one."""
    lightness, chroma = ((0.45, 0.82), (0.02, 0.09)) if muted else ((0.5, 0.8), (0.03, 0.17))
    candidates = colors_within(lightness, chroma)
    lab = oklab(candidates)
    distance, familiar = np.full(len(lab), np.inf), {}
    for k, name in enumerate(class_names):
        words = re.findall("[a-z]+", name.lower())
        for known, color in FAMILIAR_COLORS:
            if any(word in known.split() for word in words):
                far_off = np.linalg.norm(lab - oklab(np.array([color], np.uint8)), axis=1)
                best = np.where(distance > 0.07, far_off, np.inf).argmin()
                distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
                familiar[k] = tuple(candidates[best].tolist())
                break
    first = [*familiar.values()] or [(120, 80, 160)]
    colors = distinct_colors(candidates, first, len(class_names) + 1)
    others = [k for k in range(len(class_names)) if k not in familiar]
    order = np.argsort([*familiar, *others])
    return colors[: len(class_names)][order]


def distinct_colors(
    candidates: UInt8[np.ndarray, "candidates 3"], first: Sequence[tuple[int, ...]], count: int
) -> UInt8[np.ndarray, "count 3"]:
    """Returns `first` and further colors, each as unlike as possible to all before it."""
    colors, lab = np.array(first, np.uint8), oklab(candidates)
    distance = np.linalg.norm(lab[:, None] - oklab(colors), axis=-1).min(axis=1)
    while len(colors) < count:
        farthest = distance.argmax()
        colors = np.vstack([colors, candidates[farthest]])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return colors


def colors_within(
    lightness: tuple[float, float], chroma: tuple[float, float]
) -> UInt8[np.ndarray, "colors 3"]:
    """Returns a grid of the colors with these ranges of lightness and chroma in OKLab."""
    levels = np.arange(0, 256, 15).astype(np.uint8)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    lab = oklab(rgb)
    chromas = np.hypot(lab[:, 1], lab[:, 2])
    within = (lightness[0] <= lab[:, 0]) & (lab[:, 0] <= lightness[1])
    return rgb[within & (chroma[0] <= chromas) & (chromas <= chroma[1])]


def oklab(rgb: UInt8[np.ndarray, "colors 3"]) -> Float[np.ndarray, "colors 3"]:
    """Converts colors to OKLab (Ottosson, 2020), where equal distances look equal."""
    cones = linear_rgb(rgb) @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def linear_rgb(rgb: Integer[np.ndarray, "*colors 3"]) -> Float[np.ndarray, "*colors 3"]:
    """Converts sRGB values, 0 to 255, to amounts of light, 0 to 1."""
    values = rgb / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
