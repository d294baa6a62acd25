"""Mask2Former of clips (Cheng et al., arXiv:2112.10764)."""

from typing import ClassVar, Literal, overload

from jaxtyping import Array, Float

from m2f_jax.config import ModelConfig, VideoMask2FormerConfig
from m2f_jax.modeling.model import Model
from m2f_jax.structures import Predictions


class VideoMask2Former(Model):
    """The network from clips to a class and masks for every query: one object in all frames.

    Clips may be of any length: the authors test on whole videos, and train on two frames. Memory
    grows in proportion to the number of frames.

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
        """Computes classes of every query, and masks in every frame.

        Args:
            pixel_values: float [B, T, H, W, 3], normalised RGB as `ImageProcessor.video_batch`
                makes it; height and width are 32 or more.
            all_layers: return one `Predictions` per layer instead, the learned queries' first.

        Returns:
            Class logits [B, Q, K + 1], the last one for "no object", and mask logits
            [B, Q, T, H / 4, W / 4], sides rounded up; both in float32.

        Raises:
            ValueError: `pixel_values` has another layout, type or a side under 32.
        """
        return super().__call__(pixel_values, all_layers=all_layers)
