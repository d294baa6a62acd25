"""An image as the host hands it to a segmenter's devices."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from m2f_jax.inference.upsampling import canvas_size
from m2f_jax.ops.pil_resize import FilterTaps
from m2f_jax.sizes import Size
from m2f_jax.structures import ImageSize


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image that was read, with everything that its segmentation depends on.

    Attributes:
        pixels: uint8 RGB, in the upper left corner of a canvas.
        taps: the filters by which the device resizes and pads it, along height and width.
        size: its original, resized and padded size.
        target: the height and width of the result.
        extra: arrays that go to the device with the image, for a `Reduce`.
    """

    pixels: np.ndarray
    taps: tuple[FilterTaps, FilterTaps]
    size: ImageSize
    target: Size
    extra: Any = ()

    @property
    def canvas(self) -> Size:
        """The height and width of the computed arrays; the result is their upper left corner."""
        return canvas_size(self.target)

    @property
    def bucket(self) -> Hashable:
        """A key: images of one bucket use the same compiled programs and can share a batch."""
        arrays = jax.tree.leaves((self.pixels, self.taps, self.extra))
        return self.size.padded, self.canvas, *((x.shape, str(x.dtype)) for x in arrays)
