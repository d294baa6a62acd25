"""The data that the stages hand to one another."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.sizes import Size


class FeaturePyramid(NamedTuple):
    """The pixel decoder's output: features for attention, embeddings for masks (Fig. 2).

    For clips, every array has an axis of T frames.
    """

    features: tuple[Float[Array, "B *T _ _ C"], ...]  # strides 32, 16, 8, in this order
    per_pixel: Float[Array, "B *T H W E"]  # stride 4


class Predictions(NamedTuple):
    """Each query's class and mask; of a clip, one mask for each of its T frames."""

    class_logits: Float[Array, "B Q K"]  # float32; the last column is "no object"
    mask_logits: Float[Array, "B Q *T H W"]  # float32, at stride 4


class LayerPredictions(NamedTuple):
    """The predictions of the learned queries and of every layer, with masks as two factors.

    A mask's logits are the products of its embedding with every pixel's. The losses multiply a few
    masks at a time, to save memory.
    """

    class_logits: Float[Array, "L B Q K"]
    mask_embeddings: Float[Array, "L B Q E"]
    per_pixel: Float[Array, "*batch H W E"]  # [*L, B, *T]; without L where all share them


class Targets(NamedTuple):
    """The ground truth of images or clips: M masks and their classes, some of them padding."""

    labels: Int[Array | np.ndarray, "B M"]  # class indices; anything in range where not valid
    masks: Bool[Array | np.ndarray, "B M *T H W"]  # on the padded input, False in its padding
    valid: Bool[Array | np.ndarray, "B M"]  # False for padding


@dataclass(frozen=True)
class ImageSize:
    """An image's sizes (height, width) after padding, after resizing, and before either."""

    padded: Size
    resized: Size
    original: Size


class Batch(NamedTuple):
    """Images or clips ready for the model; the frames of a clip have one size."""

    pixel_values: Float[np.ndarray | jax.Array, "B *T H W 3"]  # float32, normalised RGB, 0-padded
    sizes: tuple[ImageSize, ...]
