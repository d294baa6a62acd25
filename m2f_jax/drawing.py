"""Pictures for people: a segmentation drawn over its image, with legible labels.

Things get vivid colours, as different as possible between neighbours. Stuff and semantic classes
have one colour each in all pictures. Outside of the segmentation only labels change the image.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import einops
import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from m2f_jax.label_placement import NO_OBJECT, Plate, place_labels
from m2f_jax.results import InstanceSegmentation, PanopticSegmentation, mask_box

LONGEST_NAME = 24  # characters
SMALLEST_PART = 0.01  # of the image; smaller parts of a class get no label, but for the largest
THING_OPACITY, STUFF_OPACITY, CLASS_OPACITY = 0.45, 0.5, 0.55


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
    colours = vivid_colours()[spread_colours(boxes, image.shape[:2])]
    captions = {
        int(i): thing_captions(class_names[segmentation.labels[i]], float(scores[i]))
        for i in np.argsort(-scores, kind="stable")
    }
    picture = paint(image, owners, colours, np.full(len(masks), THING_OPACITY))
    return add_labels(picture, owners, colours, things=captions, stuff={})


def draw_panoptic(
    image: UInt8[np.ndarray, "height width 3"],
    segmentation: PanopticSegmentation,
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with vivid, labelled things on stuff in muted colours; void stays as it is.

    Args:
        image: the RGB image that was segmented.
        segmentation: its segments.
        class_names: the names of the classes, by class index.
    """
    segments = segmentation.segments
    ids = [segment.id for segment in segments]
    index_of_id = np.full(
        max(ids + [int(segmentation.segment_map.max(initial=0))]) + 1, NO_OBJECT, np.int32
    )
    index_of_id[ids] = np.arange(len(ids))
    owners = index_of_id[segmentation.segment_map]
    is_thing = np.array([segment.is_thing for segment in segments], bool)
    boxes = np.array([mask_box(owners == i) for i in np.flatnonzero(is_thing)], int).reshape(-1, 4)
    labels = np.array([segment.label for segment in segments], int)
    colours = muted_colours()[labels % len(muted_colours())]
    colours[is_thing] = vivid_colours()[spread_colours(boxes, image.shape[:2])]
    order = sorted(range(len(segments)), key=lambda i: -segments[i].score)
    names = [class_names[segment.label] for segment in segments]
    picture = paint(image, owners, colours, np.where(is_thing, THING_OPACITY, STUFF_OPACITY))
    return add_labels(
        picture,
        owners,
        colours,
        things={i: thing_captions(names[i], segments[i].score) for i in order if is_thing[i]},
        stuff={i: (short(names[i]),) for i in order if not is_thing[i]},
    )


def draw_semantic(
    image: UInt8[np.ndarray, "height width 3"],
    label_map: Integer[np.ndarray, "height width"],
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with every class in its own colour, and the name on every large part of it.

    Args:
        image: the RGB image that was segmented.
        label_map: the class index of every pixel; negative where there is none.
        class_names: the names of the classes, by class index.
    """
    owners = label_map.astype(np.int32).clip(NO_OBJECT)
    captions = {
        int(label): (short(class_names[label]),)
        for label in np.flatnonzero(np.bincount(owners[owners != NO_OBJECT]))
    }
    palette = class_colours()
    colours = palette[np.arange(max(captions, default=0) + 1) % len(palette)]
    picture = paint(image, owners, colours, np.full(len(colours), CLASS_OPACITY))
    return add_labels(picture, owners, colours, things={}, stuff=captions)


def paint(
    image: UInt8[np.ndarray, "height width 3"],
    owners: Int[np.ndarray, "height width"],
    colours: UInt8[np.ndarray, "objects 3"],
    opacities: Float[np.ndarray, "objects"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Fills the objects with translucent colour and draws opaque lines just inside of them.

    Args:
        image: the RGB image below.
        owners: index of the object at every pixel, -1 where there is none.
        colours: colour of every object.
        opacities: how much of the fill's colour is seen, 0 to 1.
    """
    colour_map = np.vstack([colours, np.zeros((1, 3), np.uint8)]).take(owners, axis=0)
    alpha = np.append(np.round(opacities * 255), 0).astype(np.uint8).take(owners)
    thickness = max(1, round(image_scale(image) / 500))
    alpha[inner_edges(owners, thickness)] = 255
    layers = (Image.fromarray(colour_map), Image.fromarray(image), Image.fromarray(alpha))
    return np.array(Image.composite(*layers))


def inner_edges(
    owners: Int[np.ndarray, "height width"], thickness: int
) -> Bool[np.ndarray, "height width"]:
    """The pixels of objects that lie within `thickness` of something else."""
    edges = np.zeros(owners.shape, bool)
    for axis in (0, 1):
        change = np.diff(owners, axis=axis) != 0
        before, after = np.moveaxis(edges, axis, 0)[:-1], np.moveaxis(edges, axis, 0)[1:]
        before |= np.moveaxis(change, axis, 0)
        after |= np.moveaxis(change, axis, 0)
    for step in range(1, thickness):
        grown = edges.copy()
        for axis in (0, 1):
            old = np.moveaxis(grown if step % 2 else edges, axis, 0).copy()
            new = np.moveaxis(grown, axis, 0)
            new[1:] |= old[:-1]
            new[:-1] |= old[1:]
        edges = grown
    return edges & (owners != NO_OBJECT)


def thing_captions(class_name: str, score: float) -> tuple[str, str]:
    """What the label of a thing says, and what it says where there is less room."""
    name = short(class_name)
    return f"{name} {score:.2f}", name


def short(class_name: str) -> str:
    """The first of a class's names, cut if it is very long."""
    name = class_name.split(",")[0].strip()
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"


@dataclass(frozen=True)
class Text:
    """A line of text in a font size; its plate has room for it and a little more."""

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
    things: Mapping[int, Sequence[str]],
    stuff: Mapping[int, Sequence[str]],
) -> UInt8[np.ndarray, "height width 3"]:
    """Labels what is drawn, where this hides nothing else.

    Args:
        picture: the image with its objects painted.
        owners: index of the object at every pixel, -1 where there is none.
        colours: colour of every object.
        things: what the labels of things say, the preferred text first; by index of the object.
        stuff: the same for the objects whose labels stay on them, one label for every large part.
    """
    size = 8 + 0.0105 * image_scale(picture)
    normal, small = round(size), max(9, round(0.78 * size))

    def forms(texts: Sequence[str], pixels: int) -> list[Text]:
        large = [Text(texts[0], normal)] if pixels > (1.5 * normal) ** 2 else []
        return [*large, Text(texts[0], small), *(Text(text, small) for text in texts[1:])]

    pixels = np.bincount(owners[owners != NO_OBJECT], minlength=len(colours))
    thing_forms = {i: forms(texts, pixels[i]) for i, texts in things.items()}
    thing_owners = np.where(
        np.isin(np.arange(-1, len(colours)), list(things))[owners + 1], owners, NO_OBJECT
    )
    thing_plates = place_labels(
        thing_owners,
        {i: [text.plate_size for text in texts] for i, texts in thing_forms.items()},
        may_leave=True,
    )
    labels = [(plate, thing_forms[i][plate.form], colours[i]) for i, plate in thing_plates.items()]
    if stuff:
        parts, whole = large_parts(owners)
        part_forms = {
            part: forms(stuff[i], pixels[i]) for part, i in enumerate(whole.tolist()) if i in stuff
        }
        part_plates = place_labels(
            parts,
            {i: [text.plate_size for text in texts] for i, texts in part_forms.items()},
            may_leave=False,
            taken=list(thing_plates.values()),
        )
        labels += [
            (plate, part_forms[part][plate.form], colours[whole[part]])
            for part, plate in part_plates.items()
        ]
    canvas = Image.fromarray(picture)
    for plate, text, colour in labels:
        draw_label(canvas, plate, text, tuple(colour.tolist()))
    return np.array(canvas)


def draw_label(canvas: Image.Image, plate: Plate, text: Text, colour: tuple[int, int, int]):
    """Draws a label, and a line to its object if it is away, into a picture."""
    fine = 4  # drawn at four times the size, for smooth corners and lines
    x, y, right, bottom = plate.left, plate.top, plate.left + plate.width, plate.top + plate.height
    end_x, end_y = plate.target or (x, y)
    margin = text.font_size
    left, top = min(x, end_x) - margin, min(y, end_y) - margin
    size = (max(right, end_x) + margin - left, max(bottom, end_y) + margin - top)
    shape = Image.new("L", (size[0] * fine, size[1] * fine))
    draw = ImageDraw.Draw(shape)
    if plate.target:
        start = (min(max(end_x, x), right - 1), min(max(end_y, y), bottom - 1))
        ends = [
            ((px - left + 0.5) * fine, (py - top + 0.5) * fine)
            for px, py in (start, (end_x, end_y))
        ]
        draw.line(ends, fill=255, width=max(1, round(text.font_size / 9 * fine)))
        draw.circle(ends[1], text.font_size / 6 * fine, fill=255)
    draw.rounded_rectangle(
        [(x - left) * fine, (y - top) * fine, (right - left) * fine - 1, (bottom - top) * fine - 1],
        radius=0.25 * text.font_size * fine,
        fill=255,
    )
    canvas.paste(colour, (left, top), shape.resize(size, Image.Resampling.BOX))
    capital = text.font_size * 0.72
    ImageDraw.Draw(canvas).text(
        (x + plate.width / 2, y + (plate.height + capital) / 2),
        text.text,
        fill=text_colour(colour),
        font=font(text.font_size),
        anchor="ms",
    )


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has the larger contrast (WCAG) on a colour."""
    linear = linear_rgb(np.array(background) / 255)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    dark = 1.05 / (luminance + 0.05) < (luminance + 0.05) / 0.05
    return (0, 0, 0) if dark else (255, 255, 255)


def large_parts(
    owners: Int[np.ndarray, "height width"],
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, "parts"]]:
    """Splits objects into connected parts; returns the part at every pixel and their objects.

    Parts are found on a coarse grid. Those of at least `SMALLEST_PART` of the image come first,
    and the largest of every object; all other pixels of objects have the number after the last.
    """
    cell = max(1, round(image_scale(owners) / 200))
    coarse = owners[cell // 2 :: cell, cell // 2 :: cell]
    ...


def image_scale(image: np.ndarray) -> float:
    """The side of a square with as many pixels as the image."""
    return float(np.sqrt(image.shape[0] * image.shape[1]))
