"""A picture of a report, and the file that keeps pictures beside it.

A photograph is kept once, as a JPEG; what is drawn over it is SVG, and for classes of pixels a PNG.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2f_jax.files import read_json, write_json
from m2f_jax.plain import from_plain, to_plain

FILE = "pictures.json"
LONGEST = 800  # pixels of a side of a picture


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
