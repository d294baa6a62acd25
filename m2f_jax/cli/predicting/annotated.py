"""Ids of images from a file of COCO's annotations."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2f_jax.cli.predicting.finding import Found
from m2f_jax.datasets.coco_format.lists import check_images, list_of
from m2f_jax.files import read_json


@dataclass(frozen=True)
class AnnotatedIds:
    """The images that a file in COCO's format lists.

    Attributes:
        file: the file.
        ids: its images' ids, by `file_name`.
    """

    file: Path
    ids: Mapping[str, int | str]

    @classmethod
    def read(cls, file: Path) -> "AnnotatedIds":
        """Reads the list "images".

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has no list of images with unique ids and names; the entry is named.
        """
        where = f"{file}: images"
        ids: dict[str, int | str] = {}
        for image in check_images(list_of(read_json(file), "images", str(file)), where):
            if image.file_name is None or image.file_name in ids:
                fault = "no file_name" if image.file_name is None else "another image's file_name"
                raise ValueError(f"{where}: the image of the id {image.id!r} has {fault}")
            ids[image.file_name] = image.id
        return cls(file, ids)

    def select(self, found: Sequence[Found]) -> tuple[list[Found], list[str]]:
        """Returns the images that the file knows, and a message if there are others."""
        known = [image for image in found if image.file_name in self.ids]
        others = [image for image in found if image.file_name not in self.ids]
        if not others:
            return known, []
        first = others[0]
        return known, [
            f"{len(others)} of {len(found)} images aren't in {self.file} and are left out, the "
            f"first one {first.path}, as {first.file_name}; name the folder that the file_names "
            "there are relative to"
        ]

    def check(self, file_names: Collection[str], out: Path):
        """Refuses an output folder with results of other images.

        Raises:
            ValueError: the file doesn't know one; it is named.
        """
        unknown = sorted(set(file_names) - set(self.ids))
        if unknown:
            raise ValueError(
                f"{out} holds results of {unknown[0]}, which isn't among the images of "
                f"{self.file}; choose another --out"
            )
