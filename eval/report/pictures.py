"""The pictures of a report: the worst images with what is right in them and what is wrong.

A photograph is kept once, as a JPEG; what is drawn over it is SVG, and for classes of pixels a PNG.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8
from markupsafe import Markup
from PIL import Image

from m2f_jax.files import read_json, write_json
from m2f_jax.images import read_image
from m2f_jax.masks.boxes import mask_box
from m2f_jax.masks.rle import decode_rle
from m2f_jax.plain import from_plain, to_plain
from m2f_jax.visualization.color import class_colors

from ..analysis.errors import Error
from ..analysis.tallies.instances import SHOWN
from ..analysis.tallies.tally import Tally
from ..tasks import Evaluation, InstanceEvaluation, PanopticEvaluation, SemanticEvaluation
from .errors import KINDS, style_of
from .outlines import outline_path
from .overview import worst_images
from .page import PARTS, percent, section
from .scenes import instance_scene, panoptic_scene, semantic_maps
from .verdicts import FOUND, IGNORED, MISSED, RIGHT, Objects, Scene, judge

FILE = "pictures.json"
COUNT = 4  # images
LONGEST = 800  # pixels of a side of a picture
MOST_SHAPES = 100  # objects drawn on one side of a picture
FONT, LETTER = 15.0, 8.6  # of a picture of that size: height of text, width of a character
COARSE = 8  # pixels between the rows that are looked at for the place of a name
LEAST_PART = 0.01  # of an image; classes of pixels with less have no name in it

# Of each verdict: its words and its letter. Missed objects and right predictions are on two sides.
VERDICTS = {
    FOUND: ("found", ""),
    MISSED: ("missed", "M"),
    RIGHT: ("right", ""),
    **{style_of(error): KINDS[error][:2] for error in Error if error != Error.MISSED},
    IGNORED: ("not judged", "N"),
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """An object drawn over a photograph.

    Attributes:
        style: its verdict; "name" for the name of a class.
        path: its outline, as the `d` of a path of SVG.
        title: what it is, in words.
        label: the text beside it; empty where there is no room.
        x: left end of the text.
        y: its base line.
    """

    style: str
    path: str
    title: str
    label: str
    x: int
    y: int


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is drawn over a photograph.

    Attributes:
        words: what it shows.
        details: more for people who can't see it; begins with a comma or is empty.
        overlay: a PNG in base64; empty for none.
        shapes: objects, those on top last.
    """

    words: str
    details: str
    overlay: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image with the objects of the ground truth, and with the predicted ones.

    Attributes:
        name: of the image.
        caption: what is wrong, in short.
        width: in pixels.
        height: in pixels.
        photograph: a JPEG in base64.
        ground_truth: the one side.
        prediction: the other.
    """

    name: str
    caption: str
    width: int
    height: int
    photograph: str
    ground_truth: Side
    prediction: Side

    @property
    def unit(self) -> float:
        """How thick lines and letters are, beside those of the largest picture."""
        return max(self.width, self.height) / LONGEST


def save_pictures(folder: Path, pictures: Sequence[Picture]):
    """Writes them beside a report, for comparisons."""
    write_json(folder / FILE, [to_plain(picture) for picture in pictures])


def load_pictures(folder: Path) -> tuple[Picture, ...]:
    """Returns what `save_pictures` wrote; none if it wrote nothing.

    Raises:
        ValueError: the file is broken.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    return from_plain(tuple[Picture, ...], read_json(path), str(path))


def picture_section(pictures: Sequence[Picture]) -> Markup:
    """The part of the page that shows pictures."""
    if not pictures:
        return section("Pictures", "This report was written without pictures.")
    of_pixels = any(picture.prediction.overlay for picture in pictures)
    figures = [
        PARTS.picture(
            f"photo-{i}", picture, picture.caption, [picture.ground_truth, picture.prediction]
        )
        for i, picture in enumerate(pictures)
    ]
    if of_pixels:
        return section(
            "Pictures",
            "The worst images, in the order of their table. On the left (above, where there is "
            "little room) the classes of the ground truth, on the right the predicted ones: pale "
            "where they are right, striped where they are wrong. No color: not evaluated.",
            *figures,
        )
    return section(
        "Pictures",
        "The worst images, in the order of their table. On the left (above, where there is little "
        "room) the objects of the ground truth that count, on the right the predictions, of "
        f"instances those with a score of at least {SHOWN}. Lines and letters say what became of "
        "each at overlap 0.5; resting on an object with the mouse tells more.",
        legend(),
        *figures,
    )


def legend() -> Markup:
    """How each verdict is drawn."""
    return PARTS.verdicts(VERDICTS)


def worst_pictures(
    evaluation: Evaluation, tally: Tally, predict: Callable[[int], Any]
) -> list[Picture]:
    """Draws the worst images, as far as their photographs are there.

    Args:
        evaluation: the ground truth.
        tally: of the images; the worst ones are those of their table in the report.
        predict: returns the prediction of the image at an index of the data set, in the form that
            `evaluation.count` takes. Of instances, those with a score from 0.5 are enough.
    """
    images = evaluation.dataset.images
    index = {str(image.id): i for i, image in enumerate(images)}
    index |= {image.name: i for i, image in enumerate(images)}
    pictures = []
    for i in worst_images(tally)[:COUNT]:
        at = index[tally.images[i]]
        if not images[at].image.is_file():
            return []
        counts = {name: int(column[i]) for name, column in tally.image_counts().items()}
        caption, file = caption_of(counts), images[at].image.name
        caption += f" ({file})" * (tally.images[i] not in file)
        pictures.append(picture_of(evaluation, at, predict(at), tally.images[i], caption))
    return pictures


def caption_of(counts: dict[str, int]) -> str:
    """What is wrong with an image, in short."""
    if "missed" in counts:
        return ", ".join(f"{counts[name]} {name}" for name in ("missed", "false", "right"))
    wrong = counts["wrong pixels"]
    return f"{percent(wrong / max(wrong + counts['right pixels'], 1))} % of the pixels are wrong"


def picture_of(
    evaluation: Evaluation, index: int, prediction: Any, name: str, caption: str
) -> Picture:
    """Draws an image and its prediction, which is in the form that `evaluation.count` takes."""
    image = read_image(evaluation.dataset.images[index].image)
    size = shrunk(image.shape[1], image.shape[0])
    if isinstance(evaluation, SemanticEvaluation):
        truth, found = semantic_maps(evaluation, index, prediction)
        names = [label.name for label in evaluation.dataset.categories]
        sides = pixel_sides(resized(truth, size), resized(found, size), names)
    else:
        assert isinstance(evaluation, InstanceEvaluation | PanopticEvaluation)
        scene = (
            instance_scene(evaluation, index, prediction)
            if isinstance(evaluation, InstanceEvaluation)
            else panoptic_scene(evaluation, index, prediction)
        )
        sides = object_sides(scene, size)
    return Picture(
        name=name,
        caption=caption,
        width=size[0],
        height=size[1],
        photograph=jpeg(image, size),
        ground_truth=sides[0],
        prediction=sides[1],
    )


def shrunk(width: int, height: int) -> tuple[int, int]:
    """Returns the size of an image that is made no longer than `LONGEST`."""
    scale = min(1.0, LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a map [height, width] in another size, (width, height), by nearest pixels."""
    height, width = values.shape
    columns, rows = (
        ((np.arange(to) + 0.5) * (whole / to)).astype(int)
        for to, whole in zip(size, (width, height), strict=True)
    )
    return values[rows[:, None], columns]


def jpeg(image: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> str:
    """Returns a small photograph in base64."""
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return base64_of(small, "JPEG", quality=80)


def base64_of(image: Image.Image, format: str, **options: Any) -> str:
    """Returns an image file in base64."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return base64.b64encode(file.getvalue()).decode()


def object_sides(scene: Scene, size: tuple[int, int]) -> tuple[Side, Side]:
    """Both sides of a picture of objects; `size` is width and height."""
    verdicts = judge(scene)

    def side(words: str, objects: Objects, styles: Sequence[str]) -> Side:
        shapes = shapes_of(scene, objects, styles, size)
        counts = {style: styles.count(style) for style in VERDICTS if style in styles}
        said = ", ".join(f"{count} {VERDICTS[style][0]}" for style, count in counts.items())
        words = f"{words}: {said or 'nothing'}"
        words += f" (only {MOST_SHAPES} are drawn)" * (len(styles) > MOST_SHAPES)
        return Side(words=words, details="", overlay="", shapes=shapes)

    return (
        side("ground truth", scene.truth, verdicts.truth),
        side("prediction", scene.found, verdicts.found),
    )


def shapes_of(
    scene: Scene, objects: Objects, styles: Sequence[str], size: tuple[int, int]
) -> tuple[Shape, ...]:
    """Outlines with labels, large ones below small ones."""
    shapes, taken, areas = [], [], []
    for i, style in list(enumerate(styles))[:MOST_SHAPES]:
        mask = small_mask(objects.masks[i], size)
        areas.append(int(mask.sum()))
        words, letter = VERDICTS[style]
        name = scene.class_names[int(objects.classes[i])]
        name += "" if objects.scores is None else f" {objects.scores[i]:.2f}"
        label, x, y = placed([f"{letter} {name}".strip(), letter], mask, size, taken)
        shapes.append(
            Shape(
                style=style,
                path=outline_path(mask),
                title=f"{name}: {words}",
                label=label,
                x=x,
                y=y,
            )
        )
    order = sorted(range(len(shapes)), key=lambda i: -areas[i])
    return tuple(shapes[i] for i in order)


def small_mask(rle: Any, size: tuple[int, int]) -> Bool[np.ndarray, "rows columns"]:
    """Returns a mask in the size of a picture, with a pixel at least if it had any."""
    counts = rle["counts"]
    mask = decode_rle(counts.encode() if isinstance(counts, str) else counts, tuple(rle["size"]))
    small = resized(mask, size)
    if not small.any() and mask.any():
        rows, columns = np.nonzero(mask)
        scale = size[0] / mask.shape[1]
        small[int(rows[0] * scale) % size[1], int(columns[0] * scale) % size[0]] = True
    return small


def placed(
    texts: Sequence[str],
    mask: Bool[np.ndarray, "rows columns"],
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> tuple[str, int, int]:
    """Returns the first text that has room by a mask, and its place; an empty one if none has."""
    left, top, right, bottom = mask_box(mask)
    if not right:
        return "", 0, 0
    unit = max(size) / LONGEST
    font, low = FONT * unit, 3 * unit
    center = (left + right) / 2, (top + bottom) / 2
    for text in filter(None, texts):
        width = len(text) * LETTER * unit
        for x, y in (
            (center[0] - width / 2, center[1] + font / 3),
            (left, top - low),
            (left, bottom + font - low),
        ):
            x = float(min(max(x, 1), size[0] - width - 1))
            box = x, y - font + low, x + width, y + low
            inside = box[0] >= 0 and box[1] >= 0 and box[3] <= size[1]
            if inside and not any(overlap(box, other) for other in taken):
                taken.append(box)
                return text, int(x), int(y)
    return "", 0, 0


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) share a point."""
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]


def pixel_sides(
    truth: Int[np.ndarray, "rows columns"],
    found: Int[np.ndarray, "rows columns"],
    names: Sequence[str],
) -> tuple[Side, Side]:
    """Both sides of a picture of classes, by index; -1 is none, and isn't judged."""
    found = np.where(truth < 0, -1, found)
    wrong = (truth != found) & (truth >= 0)
    share = percent(np.count_nonzero(wrong) / max(np.count_nonzero(truth >= 0), 1))
    return (
        Side(
            words="ground truth",
            details=f", classes: {', '.join(present(truth, names))}",
            overlay=class_overlay(truth, np.zeros_like(wrong), names),
            shapes=class_names_of(truth, names),
        ),
        Side(
            words=f"prediction: {share} % of the pixels are wrong",
            details=f", classes: {', '.join(present(found, names))}",
            overlay=class_overlay(found, wrong, names),
            shapes=class_names_of(found, names),
        ),
    )


def present(classes: Int[np.ndarray, "rows columns"], names: Sequence[str]) -> list[str]:
    """The names of the classes in a map."""
    return [names[int(k)] for k in np.unique(classes) if k >= 0]


def class_overlay(
    classes: Int[np.ndarray, "rows columns"],
    wrong: Bool[np.ndarray, "rows columns"],
    names: Sequence[str],
) -> str:
    """Returns a PNG of the classes' colors, with stripes where they are wrong."""
    colors = class_colors(tuple(names))
    rows, columns = np.indices(classes.shape)
    stripe = wrong & ((rows + columns) % 8 < 2)
    opacity = np.where(wrong, 215, 110)
    color = np.where(stripe[..., None], 0, colors[classes.clip(0)])
    opacity = np.where(classes < 0, np.where(wrong, 215, 0), opacity)
    pixels = np.concatenate([color, opacity[..., None]], axis=-1).astype(np.uint8)
    image = Image.fromarray(pixels, "RGBA").quantize(256, method=Image.Quantize.FASTOCTREE)
    return base64_of(image, "PNG", compress_level=6)


def class_names_of(
    classes: Int[np.ndarray, "rows columns"], names: Sequence[str]
) -> tuple[Shape, ...]:
    """The names of the larger classes, each on the largest part of it."""
    size, taken, shapes = classes.shape[::-1], [], []
    counts = np.bincount(classes.ravel() + 1, minlength=len(names) + 1)[1:]
    for k in map(int, np.argsort(-counts, kind="stable")):
        if counts[k] < LEAST_PART * classes.size:
            break
        label, x, y = placed([names[k]], longest_run(classes == k), size, taken)
        shapes.append(Shape(style="name", path="", title=names[k], label=label, x=x, y=y))
    return tuple(shapes)


def longest_run(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Returns the longest run of a mask along a row, alone; rows between are left out."""
    coarse = mask[COARSE // 2 :: COARSE, COARSE // 2 :: COARSE]
    lengths, run = np.zeros(coarse.shape, np.int64), np.zeros(len(coarse), np.int64)
    for column, inside in enumerate(coarse.T):
        lengths[:, column] = run = np.where(inside, run + 1, 0)
    row, end = np.unravel_index(int(lengths.argmax()), coarse.shape)
    part = np.zeros_like(mask)
    start = end + 1 - lengths[row, end]
    part[row * COARSE + COARSE // 2, start * COARSE : (end + 1) * COARSE] = True
    return part
