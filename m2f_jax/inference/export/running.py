"""Runs what `m2f export FILE.m2f` wrote, without the model's code.

Axes: H W the image.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from m2f_jax.inference.export.exported_file import Header, read_exported
from m2f_jax.inference.export.one_size import ExportedInput, OneSizeSegmenter


class ExportedSegmenter(OneSizeSegmenter):
    """A model in a file of `m2f export FILE.m2f`.

    Resizing, network and post-processing are one compiled program. Several devices take an image
    each.

    Attributes:
        path: its file.
        header: its task, classes, image size and more.
        devices: where it runs.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        header: Header,
        exported: jax.export.Exported,
        arrays: dict[str, np.ndarray],
        devices: Sequence[Any],
    ):
        super().__init__(path, header)
        self.devices = tuple(devices)
        self._arrays = [jax.device_put(arrays, device) for device in self.devices]
        self._program = jax.jit(exported.call)

    @property
    def capacity(self) -> int:
        """The number of images that `submit` takes at a time: one on each device."""
        return len(self.devices)

    @classmethod
    def load(
        cls, path: str | os.PathLike, devices: Sequence[Any] | None = None
    ) -> "ExportedSegmenter":
        """Opens what `export_model` or `m2f export` wrote.

        Args:
            path: FILE; FILE.safetensors lies beside it.
            devices: where to run it; by default on the first device of this process.

        Raises:
            FileNotFoundError: one of the files is missing.
            ValueError: a byte of a file has changed, one is of another export, the program is of a
                newer version, or wasn't exported for the platform of the devices.
        """
        path = Path(path)
        devices = tuple(devices or jax.local_devices()[:1])
        header, exported, arrays = read_exported(path, devices)
        return cls(path, header, exported, arrays, devices)

    def start(self, batch: Sequence[ExportedInput], limit: np.float32) -> list[Mapping[str, Any]]:
        """Starts the devices on up to one image each, and returns at once."""
        more = [limit] if self.header.task == "instance" else []
        return [
            self._program(arrays, jax.device_put(image.pixels, device), *more)
            for image, arrays, device in zip(batch, self._arrays, self.devices, strict=False)
        ]
