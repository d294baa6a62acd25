"""Mask2Former of clips (Cheng et al., arXiv:2112.10764)."""

from typing import ClassVar, Literal, overload

from jaxtyping import Array, Float

from m2f_jax.config import ModelConfig, VideoMask2FormerConfig
from m2f_jax.modeling.model import Model
from m2f_jax.structures import Predictions


class VideoMask2Former(Model):
    """Clips to the class and the masks of every query, which stands for one object in all frames.

    It is called with pixel values [B, T, H, W, 3] and returns class logits [B, Q, K + 1] and mask
    logits [B, Q, T, h, w]. Clips may be of any length: the authors give it whole videos, and train
    on two frames. Memory grows in proportion to T.

    An authors' file has the same names and shapes whether it is a model of images or of clips, so
    `from_pretrained` of this class takes any of them, but for the published models of images.
    """

    config_class: ClassVar[type[ModelConfig]] = VideoMask2FormerConfig
    batch_axes: ClassVar[tuple[str, ...]] = ("batch", "frames")

    @overload
    def __call__(
        self, pixel_values: Float[Array, "B T H W 3"], *, all_layers: Literal[False] = False
    ) -> Predictions: ...
    @overload
    def __call__(
        self, pixel_values: Float[Array, "B T H W 3"], *, all_layers: Literal[True]
    ) -> tuple[Predictions, ...]: ...
    def __call__(self, pixel_values, *, all_layers=False):
        """Predictions at stride 4 from clips, in normalised RGB of any height and width from 32 up.

        Args:
            pixel_values: float [B, T, H, W, 3], as `ImageProcessor.video_batch` makes them.
            all_layers: return one `Predictions` per layer instead, the learned queries' first.

        Raises:
            ValueError: `pixel_values` has another layout, type or a side under 32.
        """
        return super().__call__(pixel_values, all_layers=all_layers)
