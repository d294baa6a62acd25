"""Writes one image's results: its overlay, its map of ids, and its JSON file."""

import errno
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from m2f_jax.cli.predicting.folder import Picture, write_result
from m2f_jax.cli.predicting.layout import file_stem
from m2f_jax.config import Task
from m2f_jax.files import replacing
from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segmentation,
)
from m2f_jax.labels import Label
from m2f_jax.masks.rle import encode_rle
from m2f_jax.visualization.drawing import draw_instances, draw_panoptic, draw_semantic

JPEG_SIDE = 65_500  # pixels that libjpeg takes at most

# Errors of one image's name, after which the next image's files may be written.
OF_THE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ, errno.EINVAL)


class WriteError(OSError):
    """Results can't be written, and those of the next image couldn't either."""


def id_dtype(labels: Sequence[Label]) -> np.dtype:
    """Returns the dtype of maps that hold these classes' ids.

    Raises:
        ValueError: an id doesn't fit into a PNG.
    """
    for label in labels:
        if not 0 <= label.id < 2**16:
            raise ValueError(
                f"the class {label.name} has the id {label.id}, and maps hold ids from 0 to 65535; "
                "give the model's labels other ids"
            )
    return np.dtype(np.uint8 if max(label.id for label in labels) < 2**8 else np.uint16)


@dataclass(frozen=True)
class Writer:
    """Puts one image's results into files.

    Attributes:
        out: the output folder.
        task: what was predicted.
        labels: the classes.
    """

    out: Path
    task: Task
    labels: tuple[Label, ...]

    def write(self, picture: Picture, image: np.ndarray, segmentation: Segmentation) -> list[str]:
        """Writes the overlay and the map first, then the JSON, which says that it is done.

        Returns:
            Messages for the user.

        Raises:
            WriteError: the disk is full or may not be written to.
            OSError: the image has a name that files can't have.
        """
        try:
            return self.write_files(picture, image, segmentation)
        except OSError as error:
            name = str(error.filename or self.out)
            kind = OSError if error.errno in OF_THE_NAME else WriteError
            raise kind(error.errno, error.strerror, name) from error

    def write_files(
        self, picture: Picture, image: np.ndarray, segmentation: Segmentation
    ) -> list[str]:
        """Writes the files as `write` says, and lets errors through as they are."""
        names = [label.name for label in self.labels]
        stem = file_stem(picture.name)
        if isinstance(segmentation, InstanceSegmentation):
            overlay = draw_instances(image, segmentation, names)
            annotations = segmentation.to_coco(self.labels, picture.name)
        elif isinstance(segmentation, PanopticSegmentation):
            overlay = draw_panoptic(image, segmentation, names)
            self.save(segmentation.to_rgb(), f"maps/{stem}.png")
            annotations = [segmentation.to_coco(self.labels, picture.name, f"{stem}.png")]
        else:
            overlay = draw_semantic(image, segmentation, names)
            ids = np.array([label.id for label in self.labels], id_dtype(self.labels))
            self.save(ids[segmentation], f"maps/{stem}.png")
            annotations = [
                {
                    "image_id": picture.name,
                    "category_id": self.labels[k].id,
                    "segmentation": encode_rle(segmentation == k),
                }
                for k in np.unique(segmentation)
            ]
        large = max(image.shape) > JPEG_SIDE
        file = self.save(overlay, f"overlays/{stem}.{'png' if large else 'jpg'}", quality=92)
        write_result(self.out, picture, annotations)
        return [f"{file} is a PNG, since a JPEG has at most {JPEG_SIDE} pixels a side"] * large

    def save(self, pixels: np.ndarray, name: str, **options: Any) -> Path:
        """Writes a picture in the format of its ending, and returns its path."""
        path = self.out / name
        encoded = io.BytesIO()  # so that what fails below is the disk
        kind = "PNG" if path.suffix == ".png" else "JPEG"
        Image.fromarray(pixels).save(encoded, kind, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_bytes(encoded.getvalue())
        return path
