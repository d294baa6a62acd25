"""Pictures for people: a segmentation drawn over its image, with legible labels.

Every pixel shows at most one object: a translucent fill, and an opaque line inside its border. A
label that would hide something else wherever it stands is left out. Things get vivid colors that
differ from their neighbours and from the image; stuff and semantic classes have one color each, the
same in all pictures of a data set.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation
from m2f_jax.masks.boxes import mask_box
from m2f_jax.visualization.color import class_colors, text_color, thing_colors
from m2f_jax.visualization.label_placement import NO_OBJECT, Plate, large_parts, place_labels

LONGEST_NAME = 24  # characters
SMALLEST_PART = 0.001  # of the image; smaller parts of stuff get no label beside them


def draw_instances(
    image: UInt8[np.ndarray, "height width 3"],
    segmentation: InstanceSegmentation,
    class_names: Sequence[str],
    *,
    show_scores: bool = True,
    colors: UInt8[np.ndarray, "N 3"] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws every instance filled, outlined and labelled "class score" over the image.

    Small instances lie over large ones; of two of about the same size, the better score is on top.

    Args:
        image: the RGB image that was segmented.
        segmentation: its instances.
        class_names: the names of the classes, by class index.
        show_scores: False leaves the scores out, for instance of a ground truth.
        colors: of the instances; by default they differ from their neighbours and the image.

    Raises:
        ValueError: the image isn't uint8 RGB, or the segmentation has another size.
    """
    scores = segmentation.scores
    check_image(image, segmentation.size)
    boxes = segmentation.boxes.astype(int)
    areas = segmentation.areas
    owners = np.full(image.shape[:2], NO_OBJECT, np.int32)
    for i in np.lexsort((scores, -np.log2(areas.clip(1)).round())):
        left, top, right, bottom = boxes[i]
        owners[top:bottom, left:right][segmentation.mask_in_box(int(i))] = i
    captions = {
        i: thing_captions(
            class_names[int(segmentation.labels[i])], float(scores[i]) if show_scores else None
        )
        for i in np.argsort(-scores, kind="stable").tolist()
    }
    colors = thing_colors(image, boxes) if colors is None else colors
    picture = paint(image, owners, colors, thing_opacities(areas, image))
    return add_labels(picture, owners, colors, things=captions, stuff={})


def draw_panoptic(
    image: UInt8[np.ndarray, "height width 3"],
    segmentation: PanopticSegmentation,
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws vivid things, labelled "class score", and stuff in muted class colors.

    Void stays as it is.

    Args:
        image: the RGB image that was segmented.
        segmentation: its segments.
        class_names: the names of the classes, by class index.

    Raises:
        ValueError: the image isn't uint8 RGB, or the segmentation has another size.
    """
    segments, segment_map = segmentation.segments, segmentation.segment_map
    check_image(image, segment_map.shape)
    ids = [segment.id for segment in segments]
    owner_of_id = np.full(max([*ids, segment_map.max(initial=0)]) + 1, NO_OBJECT, np.int32)
    owner_of_id[ids] = np.arange(len(ids))
    owners = owner_of_id[segment_map]
    names = [class_names[segment.label] for segment in segments]
    things = [i for i, segment in enumerate(segments) if segment.is_thing]
    stuff = [i for i, segment in enumerate(segments) if not segment.is_thing]

    colors = np.zeros((len(segments), 3), np.uint8)
    boxes = np.array([mask_box(owners == i) for i in things], int).reshape(-1, 4)
    colors[things] = thing_colors(image, boxes)
    colors[stuff] = class_colors(tuple(class_names), muted=True)[[segments[i].label for i in stuff]]
    areas = areas_of(owners, len(segments))
    opacities = thing_opacities(areas, image)
    opacities[stuff] = 0.5
    return add_labels(
        paint(image, owners, colors, opacities),
        owners,
        colors,
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
    """Draws every class in its own color, with its name on all its large parts.

    Args:
        image: the RGB image that was segmented.
        label_map: the class index of every pixel; negative where there is none.
        class_names: the names of the classes, by class index.

    Raises:
        ValueError: the image isn't uint8 RGB, or the segmentation has another size.
    """
    check_image(image, label_map.shape)
    owners = label_map.astype(np.int32).clip(NO_OBJECT)
    present = np.flatnonzero(areas_of(owners, len(class_names))).tolist()
    captions = {label: short_name(class_names[label]) for label in present}
    colors = class_colors(tuple(class_names))
    picture = paint(image, owners, colors, np.full(len(colors), 0.55))
    return add_labels(picture, owners, colors, things={}, stuff=captions)


def check_image(image: np.ndarray, size: tuple[int, ...]):
    """Refuses an image that isn't uint8 RGB of this height and width.

    Raises:
        ValueError: the message has both shapes.
    """
    if image.shape != (*size, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"the segmentation needs a uint8 image of shape {(*size, 3)}; "
            f"got {image.dtype} of shape {image.shape}"
        )


def thing_captions(class_name: str, score: float | None) -> tuple[str, ...]:
    """Returns the label of a thing, and a shorter one for where there is less room."""
    name = short_name(class_name)
    return (name,) if score is None else (f"{name} {score:.2f}", name)


def short_name(class_name: str) -> str:
    """Returns the first of a class's names, cut if it is very long."""
    name = class_name.split(",")[0].strip()
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"


def paint(
    image: UInt8[np.ndarray, "height width 3"],
    owners: Int[np.ndarray, "height width"],
    colors: UInt8[np.ndarray, "objects 3"],
    opacities: Float[np.ndarray, "objects"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Fills the objects with translucent color, and draws a line inside their borders.

    Args:
        image: the RGB image below.
        owners: index of the object at every pixel, -1 where there is none.
        colors: color of every object.
        opacities: of every object's fill, 0 to 1.
    """
    overlay = np.vstack([colors, np.zeros((1, 3), np.uint8)]).take(owners, axis=0)
    alpha = np.append(np.round(opacities * 255), 0).astype(np.uint8).take(owners)
    # A line on a small object is thin, so that something of the object is seen inside.
    thickest = round(1.2 + image_scale(image) / 750)
    areas = areas_of(owners, len(colors))
    thickness = np.append((np.sqrt(areas) / 12).round().clip(1, thickest), 0).astype(np.uint8)
    alpha[border_depth(owners, thickest) <= thickness.take(owners)] = 255
    # Below fills, the image has half of its color, so that a fill keeps its hue on any object.
    photograph = Image.fromarray(image)
    pale = Image.blend(photograph, photograph.convert("L").convert("RGB"), 0.5)
    below = Image.composite(pale, photograph, Image.fromarray(owners != NO_OBJECT))
    return np.array(Image.composite(Image.fromarray(overlay), below, Image.fromarray(alpha)))


def thing_opacities(
    areas: Int[np.ndarray, "N"], image: UInt8[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "N"]:
    """Returns the opacity of the fills of things; smaller things are more opaque."""
    share = areas.clip(1) / (image.shape[0] * image.shape[1])
    return (0.37 - 0.06 * np.log10(share)).clip(0.4, 0.6)


def border_depth(
    owners: Int[np.ndarray, "height width"], deepest: int
) -> UInt8[np.ndarray, "height width"]:
    """Returns 1 on pixels that touch another object, 2 next to those, to `deepest`; else 255."""
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
    """A line of text in a font size, on a plate with a little room around it."""

    text: str
    font_size: int

    @property
    def plate_size(self) -> tuple[int, int]:
        """Width and height of the plate in pixels."""
        width = font(self.font_size).getlength(self.text)
        return round(width + 0.7 * self.font_size), round(1.4 * self.font_size)


@functools.lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns Pillow's own font, in a size in pixels."""
    return ImageFont.load_default(size)


def add_labels(
    picture: UInt8[np.ndarray, "height width 3"],
    owners: Int[np.ndarray, "height width"],
    colors: UInt8[np.ndarray, "objects 3"],
    *,
    things: Mapping[int, tuple[str, ...]],
    stuff: Mapping[int, str],
) -> UInt8[np.ndarray, "height width 3"]:
    """Adds labels to a painted picture: of things first, then of large parts of stuff, then small.

    The labels of small parts of stuff may cover large parts, which have a label already.

    Args:
        picture: the image with its objects painted.
        owners: index of the object at every pixel, -1 where there is none.
        colors: color of every object.
        things: the labels of things, in full and perhaps in short, by index of the object.
        stuff: the labels of other objects.
    """
    size = 8 + 0.0105 * image_scale(picture)
    normal, small = round(size), max(10, round(0.78 * size))

    def forms(texts: Sequence[str], pixels: int) -> list[Text]:
        first = [Text(texts[0], normal)] if pixels >= (1.5 * normal) ** 2 else []
        return [*first, *(Text(text, small) for text in texts)]

    areas = areas_of(owners, len(colors))
    thing_texts = {i: forms(texts, int(areas[i])) for i, texts in things.items()}
    placed = place_texts(keep_objects(owners, things), thing_texts, may_leave=True)
    labels = [(plate, text, i) for i, (plate, text) in placed.items()]
    if stuff:
        parts, objects = large_parts(owners)
        areas = areas_of(parts, len(objects))
        texts = {
            part: forms([stuff[i]], int(areas[part]))
            for part, i in enumerate(objects.tolist())
            if i in stuff
        }
        taken = [plate for plate, _, _ in labels]
        placed = place_texts(parts, texts, may_leave=False, taken=taken)
        named = {int(objects[part]) for part in placed}
        largest = dict(zip(objects.tolist()[::-1], range(len(objects))[::-1], strict=True))
        small_parts = {
            part: texts[part]
            for i, part in largest.items()
            if i in stuff and i not in named and areas[part] >= SMALLEST_PART * owners.size
        }
        others = [part for part in range(len(objects) + 1) if part not in placed]
        taken += [plate for plate, _ in placed.values()]
        placed |= place_texts(keep_objects(parts, others), small_parts, may_leave=True, taken=taken)
        labels += [(plate, text, int(objects[part])) for part, (plate, text) in placed.items()]
    canvas = Image.fromarray(picture)
    for plate, text, i in labels:
        draw_label(canvas, plate, text, tuple(colors[i].tolist()))
    return np.array(canvas)


def place_texts(
    owners: Int[np.ndarray, "height width"],
    texts: Mapping[int, Sequence[Text]],
    *,
    may_leave: bool,
    taken: Sequence[Plate] = (),
) -> dict[int, tuple[Plate, Text]]:
    """Returns the place of each label, see `place_labels`, and which of its texts stands there."""
    sizes = {i: [form.plate_size for form in forms] for i, forms in texts.items()}
    plates = place_labels(owners, sizes, may_leave=may_leave, taken=taken)
    return {i: (plate, texts[i][plate.form]) for i, plate in plates.items()}


def keep_objects(
    owners: Int[np.ndarray, "height width"], kept: Iterable[int]
) -> Int[np.ndarray, "height width"]:
    """Returns the map with `NO_OBJECT` in place of all objects but these."""
    kept = list(kept)
    table = np.full(max([*kept, int(owners.max(initial=0))]) + 2, NO_OBJECT, owners.dtype)
    table[kept] = kept
    return table[owners]  # -1 is the last one


def draw_label(canvas: Image.Image, plate: Plate, text: Text, color: tuple[int, int, int]):
    """Draws a label into a picture, and a line to its object if it stands away from it."""
    low = np.array([plate.left, plate.top])
    high = low + np.array([plate.width, plate.height])
    end = low if plate.target is None else np.array(plate.target)
    # The shape is drawn several times as large, for smooth corners and lines.
    fine, margin = 4, plate.height
    origin = np.minimum(low, end) - margin
    size = np.maximum(high, end) + margin - origin
    shape = Image.new("L", tuple((fine * size).tolist()))
    draw = ImageDraw.Draw(shape)
    if plate.target is not None:
        line = [
            tuple((fine * (at - origin + 0.5)).tolist()) for at in (end.clip(low, high - 1), end)
        ]
        draw.line(line, fill=255, width=max(fine, text.font_size * fine // 9))
        draw.circle(line[1], text.font_size * fine / 8, fill=255)
    corners = [*(fine * (low - origin)).tolist(), *(fine * (high - origin) - 1).tolist()]
    draw.rounded_rectangle(corners, radius=text.font_size * fine / 4, fill=255)
    mask = shape.resize(tuple(size.tolist()), Image.Resampling.BOX)
    canvas.paste(color, tuple(origin.tolist()), mask)
    ImageDraw.Draw(canvas).text(
        (plate.left + plate.width / 2, plate.top + 0.755 * plate.height),  # the middle of capitals
        text.text,
        fill=text_color(color),
        font=font(text.font_size),
        anchor="ms",
    )


def areas_of(owners: Int[np.ndarray, "height width"], count: int) -> Int[np.ndarray, "objects"]:
    """Returns the number of pixels of each object; there are at least `count` entries."""
    return np.bincount(owners.ravel() + 1, minlength=count + 1)[1:]


def image_scale(image: np.ndarray) -> float:
    """Returns the side of a square with as many pixels as the image."""
    return float(np.sqrt(image.shape[0] * image.shape[1]))
