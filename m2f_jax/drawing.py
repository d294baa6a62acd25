"""Pictures for people: a segmentation drawn over its image, with legible labels.

Every pixel shows at most one object: a translucent fill, and an opaque line inside its border.
Things get vivid colours that differ from their neighbours and from the image; stuff and semantic
classes have one colour each, the same in all pictures of a data set.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from m2f_jax.label_placement import NO_OBJECT, Plate, large_parts, place_labels
from m2f_jax.results import InstanceSegmentation, PanopticSegmentation, mask_box

LONGEST_NAME = 24  # characters
SMALLEST_PART = 0.001  # of the image; smaller parts of stuff get no label beside them

# What people expect some classes to look like, by words in their names.
FAMILIAR_COLOURS = (
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


def draw_instances(
    image: UInt8[np.ndarray, "height width 3"],
    segmentation: InstanceSegmentation,
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with every instance filled, outlined and labelled "class score".

    Small instances lie over large ones, and of about the same size the better score is on top.

    Args:
        image: the RGB image that was segmented.
        segmentation: its instances.
        class_names: the names of the classes, by class index.
    """
    masks, scores = segmentation.masks, segmentation.scores
    boxes = np.array([mask_box(mask) for mask in masks], int).reshape(-1, 4)
    areas = np.count_nonzero(masks, axis=(1, 2))
    owners = np.full(image.shape[:2], NO_OBJECT, np.int32)
    for i in np.lexsort((scores, -np.log2(areas.clip(1)).round())):
        left, top, right, bottom = boxes[i]
        window = np.s_[top:bottom, left:right]
        owners[window][masks[i][window]] = i
    captions = {
        i: thing_captions(class_names[int(segmentation.labels[i])], float(scores[i]))
        for i in np.argsort(-scores, kind="stable").tolist()
    }
    colours = thing_colours(image, boxes)
    picture = paint(image, owners, colours, thing_opacities(areas, image))
    return add_labels(picture, owners, colours, things=captions, stuff={})


def draw_panoptic(
    image: UInt8[np.ndarray, "height width 3"],
    segmentation: PanopticSegmentation,
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with vivid things, labelled "class score", and stuff in muted class colours.

    Void stays as it is.

    Args:
        image: the RGB image that was segmented.
        segmentation: its segments.
        class_names: the names of the classes, by class index.
    """
    segments, segment_map = segmentation.segments, segmentation.segment_map
    ids = [segment.id for segment in segments]
    owner_of_id = np.full(max([*ids, segment_map.max(initial=0)]) + 1, NO_OBJECT, np.int32)
    owner_of_id[ids] = np.arange(len(ids))
    owners = owner_of_id[segment_map]
    names = [class_names[segment.label] for segment in segments]
    things = [i for i, segment in enumerate(segments) if segment.is_thing]
    stuff = [i for i, segment in enumerate(segments) if not segment.is_thing]

    colours = np.zeros((len(segments), 3), np.uint8)
    boxes = np.array([mask_box(owners == i) for i in things], int).reshape(-1, 4)
    colours[things] = thing_colours(image, boxes)
    colours[stuff] = class_colours(tuple(class_names), muted=True)[
        [segments[i].label for i in stuff]
    ]
    areas = np.bincount(owners[owners != NO_OBJECT], minlength=len(segments))
    opacities = thing_opacities(areas, image)
    opacities[stuff] = 0.5
    return add_labels(
        paint(image, owners, colours, opacities),
        owners,
        colours,
        things={
            i: thing_captions(names[i], segments[i].score)
            for i in sorted(things, key=lambda i: -segments[i].score)
        },
        stuff={i: short_name(names[i]) for i in stuff},
    )


def draw_semantic(
    image: UInt8[np.ndarray, "height width 3"],
    label_map: Integer[np.ndarray, "height width"],
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with every class in its own colour, and its name on all its large parts.

    Args:
        image: the RGB image that was segmented.
        label_map: the class index of every pixel; negative where there is none.
        class_names: the names of the classes, by class index.
    """
    owners = label_map.astype(np.int32).clip(NO_OBJECT)
    present = np.flatnonzero(np.bincount(owners[owners != NO_OBJECT])).tolist()
    captions = {label: short_name(class_names[label]) for label in present}
    colours = class_colours(tuple(class_names))
    picture = paint(image, owners, colours, np.full(len(colours), 0.55))
    return add_labels(picture, owners, colours, things={}, stuff=captions)


def thing_captions(class_name: str, score: float) -> tuple[str, str]:
    """What the label of a thing says, and what it says where there is less room."""
    name = short_name(class_name)
    return f"{name} {score:.2f}", name


def short_name(class_name: str) -> str:
    """The first of a class's names, cut if it is very long."""
    name = class_name.split(",")[0].strip()
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"


def paint(
    image: UInt8[np.ndarray, "height width 3"],
    owners: Int[np.ndarray, "height width"],
    colours: UInt8[np.ndarray, "objects 3"],
    opacities: Float[np.ndarray, "objects"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Fills the objects with translucent colour, and draws a line inside their borders.

    Args:
        image: the RGB image below.
        owners: index of the object at every pixel, -1 where there is none.
        colours: colour of every object.
        opacities: how much of its fill is seen, 0 to 1.
    """
    overlay = np.vstack([colours, np.zeros((1, 3), np.uint8)]).take(owners, axis=0)
    alpha = np.append(np.round(opacities * 255), 0).astype(np.uint8).take(owners)
    # A line on a small object is thin, so that something of the object is seen inside.
    thickest = round(1.2 + image_scale(image) / 750)
    areas = np.bincount(owners[owners != NO_OBJECT], minlength=len(colours))
    thickness = np.append((np.sqrt(areas) / 12).round().clip(1, thickest), 0).astype(np.uint8)
    alpha[border_depth(owners, thickest) <= thickness.take(owners)] = 255
    layers = (Image.fromarray(overlay), Image.fromarray(image), Image.fromarray(alpha))
    return np.array(Image.composite(*layers))


def thing_opacities(
    areas: Int[np.ndarray, "N"], image: UInt8[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "N"]:
    """How opaque the fills of things are: the smaller a thing, the more it needs to be found."""
    share = areas.clip(1) / (image.shape[0] * image.shape[1])
    return (0.32 - 0.06 * np.log10(share)).clip(0.35, 0.55)


def border_depth(
    owners: Int[np.ndarray, "height width"], deepest: int
) -> UInt8[np.ndarray, "height width"]:
    """1 on pixels that touch something else, 2 next to those, up to `deepest`; else 255."""
    edges = np.zeros(owners.shape, bool)
    for edge, owner in ((edges, owners), (edges.T, owners.T)):
        change = owner[1:] != owner[:-1]
        edge[1:] |= change
        edge[:-1] |= change
    depth = np.where(edges, np.uint8(1), np.uint8(255))
    for step in range(2, deepest + 1):
        grown = edges.copy()
        # Squares and crosses in turn: lines are about as thick in all directions.
        for to, by in ((grown, edges), (grown.T, (grown.copy() if step % 2 else edges).T)):
            to[1:] |= by[:-1]
            to[:-1] |= by[1:]
        depth[grown & ~edges] = step
        edges = grown
    return depth


@dataclass(frozen=True)
class Text:
    """A line of text in a font size; on its plate, there is a little room around it."""

    text: str
    font_size: int

    @property
    def plate_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width = font(self.font_size).getlength(self.text)
        return round(width + 0.7 * self.font_size), round(1.4 * self.font_size)


@functools.lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def add_labels(
    picture: UInt8[np.ndarray, "height width 3"],
    owners: Int[np.ndarray, "height width"],
    colours: UInt8[np.ndarray, "objects 3"],
    *,
    things: Mapping[int, tuple[str, str]],
    stuff: Mapping[int, str],
) -> UInt8[np.ndarray, "height width 3"]:
    """Labels what is painted: things first, then large parts of stuff, then small parts.

    The labels of small parts of stuff may cover large parts, which have a label already.

    Args:
        picture: the image with its objects painted.
        owners: index of the object at every pixel, -1 where there is none.
        colours: colour of every object.
        things: what the labels of things say, in full and in short, by index of the object.
        stuff: what the labels of other objects say.
    """
    size = 8 + 0.0105 * image_scale(picture)
    normal, small = round(size), max(9, round(0.78 * size))

    def forms(texts: Sequence[str], pixels: int) -> list[Text]:
        first = [Text(texts[0], normal)] if pixels >= (1.5 * normal) ** 2 else []
        return [*first, *(Text(text, small) for text in texts)]

    areas = np.bincount(owners[owners != NO_OBJECT], minlength=len(colours))
    thing_texts = {i: forms(texts, int(areas[i])) for i, texts in things.items()}
    placed = place_texts(keep_objects(owners, things), thing_texts, may_leave=True)
    labels = [(plate, text, i) for i, (plate, text) in placed.items()]
    if stuff:
        parts, objects = large_parts(owners)
        areas = np.bincount(parts[parts != NO_OBJECT], minlength=len(objects))
        texts = {
            part: forms([stuff[i]], int(areas[part]))
            for part, i in enumerate(objects.tolist())
            if i in stuff
        }
        taken = [plate for plate, _, _ in labels]
        placed = place_texts(parts, texts, may_leave=False, taken=taken)
        small_parts = {
            part: text
            for part, text in texts.items()
            if part not in placed and areas[part] >= SMALLEST_PART * owners.size
        }
        taken += [plate for plate, _ in placed.values()]
        unnamed = [part for part in range(len(objects) + 1) if part not in placed]
        placed |= place_texts(
            keep_objects(parts, unnamed), small_parts, may_leave=True, taken=taken
        )
        labels += [(plate, text, int(objects[part])) for part, (plate, text) in placed.items()]
    canvas = Image.fromarray(picture)
    for plate, text, i in labels:
        draw_label(canvas, plate, text, tuple(colours[i].tolist()))
    return np.array(canvas)


def place_texts(
    owners: Int[np.ndarray, "height width"],
    texts: Mapping[int, Sequence[Text]],
    *,
    may_leave: bool,
    taken: Sequence[Plate] = (),
) -> dict[int, tuple[Plate, Text]]:
    """Where the labels go (see `place_labels`), and which of its texts each of them shows."""
    sizes = {i: [form.plate_size for form in forms] for i, forms in texts.items()}
    plates = place_labels(owners, sizes, may_leave=may_leave, taken=taken)
    return {i: (plate, texts[i][plate.form]) for i, plate in plates.items()}


def keep_objects(
    owners: Int[np.ndarray, "height width"], kept: Iterable[int]
) -> Int[np.ndarray, "height width"]:
    """The same map with those objects only."""
    kept = list(kept)
    table = np.full(int(owners.max(initial=0)) + 2, NO_OBJECT, owners.dtype)  # the last one is -1
    table[kept] = kept
    return table.take(owners, mode="wrap")


def draw_label(canvas: Image.Image, plate: Plate, text: Text, colour: tuple[int, int, int]):
    """Draws a label into a picture, and a line to its object if it is away."""
    left, top = plate.left, plate.top
    right, bottom = left + plate.width - 1, top + plate.height - 1
    end_x, end_y = plate.target or (left, top)
    start_x, start_y = min(max(end_x, left), right), min(max(end_y, top), bottom)
    # The shape is drawn several times as large, for smooth corners and lines.
    fine, margin = 4, plate.height
    origin = (min(left, end_x) - margin, min(top, end_y) - margin)
    size = (
        max(right, end_x) + margin - origin[0],
        max(bottom, end_y) + margin - origin[1],
    )

    def enlarged(x: float, y: float) -> tuple[float, float]:
        return (x - origin[0]) * fine, (y - origin[1]) * fine

    shape = Image.new("L", (size[0] * fine, size[1] * fine))
    draw = ImageDraw.Draw(shape)
    if plate.target:
        line = [enlarged(start_x + 0.5, start_y + 0.5), enlarged(end_x + 0.5, end_y + 0.5)]
        draw.line(line, fill=255, width=max(fine, text.font_size * fine // 9))
        draw.circle(line[1], text.font_size * fine / 8, fill=255)
    draw.rounded_rectangle(
        [enlarged(left, top), enlarged(right + 0.9, bottom + 0.9)],
        radius=text.font_size * fine / 4,
        fill=255,
    )
    canvas.paste(colour, origin, shape.resize(size, Image.Resampling.BOX))
    ImageDraw.Draw(canvas).text(
        (left + plate.width / 2, top + 0.755 * plate.height),  # capitals stand in the middle
        text.text,
        fill=text_colour(colour),
        font=font(text.font_size),
        anchor="ms",
    )


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has more contrast with a colour (WCAG)."""
    luminance = linear_rgb(np.array(background)) @ (0.2126, 0.7152, 0.0722)
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def thing_colours(
    image: UInt8[np.ndarray, "height width 3"], boxes: Int[np.ndarray, "N 4"]
) -> UInt8[np.ndarray, "N 3"]:
    """A vivid colour for every box, unlike those of boxes close by and unlike the image in it."""
    palette = vivid_colours()
    lab = oklab(palette)
    reach = 0.1 * float(np.hypot(*image.shape[:2]))
    chosen = np.zeros(len(boxes), int)
    for i, (left, top, right, bottom) in enumerate(boxes):
        others = boxes[:i]
        gap_x = np.maximum(others[:, 0] - right, left - others[:, 2]).clip(0)
        gap_y = np.maximum(others[:, 1] - bottom, top - others[:, 3]).clip(0)
        closeness = np.exp(-np.hypot(gap_x, gap_y) / reach)
        inside = image[top : bottom + 1 : 4, left : right + 1 : 4].reshape(-1, 3)
        seen = np.vstack([lab[chosen[:i]], oklab(inside).mean(axis=0)])
        distance = np.linalg.norm(lab[:, None] - seen, axis=-1)
        cost = np.exp(-((distance / 0.15) ** 2)) @ np.append(closeness, 1.0)
        chosen[i] = (cost + 1e-3 * np.arange(len(lab))).argmin()
    return palette[chosen]


@functools.lru_cache
def vivid_colours() -> UInt8[np.ndarray, "24 3"]:
    """Colours that are easy to tell apart; the first ones best."""
    candidates = colours_within((0.66, 0.84), (0.13, 0.23))
    return distinct_colours(candidates, [(30, 130, 255)], 24)


@functools.lru_cache
def class_colours(
    class_names: tuple[str, ...], *, muted: bool = False
) -> UInt8[np.ndarray, "classes 3"]:
    """One colour for every class, near those that people expect."""
    lightness, chroma = ((0.45, 0.82), (0.02, 0.09)) if muted else ((0.5, 0.8), (0.06, 0.17))
    candidates = colours_within(lightness, chroma)
    lab = oklab(candidates)
    distance, familiar = np.full(len(lab), np.inf), {}
    for k, name in enumerate(class_names):
        words = re.findall("[a-z]+", name.lower())
        for known, colour in FAMILIAR_COLOURS:
            if any(word in known.split() for word in words):
                far_off = np.linalg.norm(lab - oklab(np.array([colour], np.uint8)), axis=1)
                best = np.where(distance > 0.07, far_off, np.inf).argmin()
                distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
                familiar[k] = tuple(candidates[best].tolist())
                break
    first = [*familiar.values()] or [(120, 80, 160)]
    colours = distinct_colours(candidates, first, len(class_names) + 1)
    others = [k for k in range(len(class_names)) if k not in familiar]
    order = np.argsort([*familiar, *others])
    return colours[: len(class_names)][order]


def distinct_colours(
    candidates: UInt8[np.ndarray, "candidates 3"], first: Sequence[tuple[int, ...]], count: int
) -> UInt8[np.ndarray, "count 3"]:
    """Goes on after `first` with colours, each as unlike as possible to all before it."""
    colours, lab = np.array(first, np.uint8), oklab(candidates)
    distance = np.linalg.norm(lab[:, None] - oklab(colours), axis=-1).min(axis=1)
    while len(colours) < count:
        farthest = distance.argmax()
        colours = np.vstack([colours, candidates[farthest]])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return colours


def colours_within(
    lightness: tuple[float, float], chroma: tuple[float, float]
) -> UInt8[np.ndarray, "colours 3"]:
    """A fine grid of the colours that have these lightnesses and chromas in OKLab."""
    levels = np.arange(0, 256, 15).astype(np.uint8)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    lab = oklab(rgb)
    chromas = np.hypot(lab[:, 1], lab[:, 2])
    within = (lightness[0] <= lab[:, 0]) & (lab[:, 0] <= lightness[1])
    return rgb[within & (chroma[0] <= chromas) & (chromas <= chroma[1])]


def oklab(rgb: UInt8[np.ndarray, "colours 3"]) -> Float[np.ndarray, "colours 3"]:
    """Colours in OKLab (Ottosson, 2020), where equal distances look equal."""
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


def linear_rgb(rgb: Integer[np.ndarray, "*colours 3"]) -> Float[np.ndarray, "*colours 3"]:
    """Colours as amounts of light, 0 to 1, from sRGB values, 0 to 255."""
    values = rgb / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def image_scale(image: np.ndarray) -> float:
    """The side of a square with as many pixels as the image."""
    return float(np.sqrt(image.shape[0] * image.shape[1]))
