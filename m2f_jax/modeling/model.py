"""What all models are: a backbone, a pixel decoder and a Transformer decoder, in turn (Fig. 2)."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeVar, overload

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import ModelConfig
from m2f_jax.modeling.layers import folded
from m2f_jax.modeling.parts import module_of
from m2f_jax.structures import FeaturePyramid, LayerPredictions, Predictions

MIN_SIZE = 32  # pixels of a side: the coarsest stride
Kind = TypeVar("Kind", bound="Model")


class Model(nnx.Module):
    """The network from images to a class and a mask for every query.

    The base class of `Mask2Former`, `MaskFormer` and `VideoMask2Former`. A new model's parameters
    are distributed as the authors' code draws them.

    Calling the model compiles it once per input shape. Parameters are read in the dtype that they
    have and computed with in `dtype`; sampling coordinates, softmax, statistics of norms and both
    outputs are float32 always. In float32, matrix products run at full precision unless
    `jax.default_matmul_precision` says otherwise ("tensorfloat32" is faster on a GPU).
    """

    config_class: ClassVar[type[ModelConfig]] = ModelConfig
    batch_axes: ClassVar[tuple[str, ...]] = ("batch",)  # of pixel values, before height and width

    def __init__(self, config: ModelConfig, *, dtype: str | jnp.dtype = "float32", rngs: nnx.Rngs):
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"{type(self).__name__} needs a {self.config_class.__name__}, not a "
                f"{type(config).__name__}"
            )
        self.config = config
        self.dtype = jnp.dtype(dtype)
        backbone, pixel_decoder, decoder = config.backbone, config.pixel_decoder, config.decoder
        self.backbone = module_of(backbone)(backbone, dtype=self.dtype, rngs=rngs)
        self.pixel_decoder = module_of(pixel_decoder)(
            pixel_decoder, backbone.channels, dtype=self.dtype, rngs=rngs
        )
        self.decoder = module_of(decoder)(
            decoder, config.num_classes, pixel_decoder.mask_dim, dtype=self.dtype, rngs=rngs
        )

    @classmethod
    def from_pretrained(
        cls: type[Kind],
        source: str | os.PathLike,
        dtype: str | jnp.dtype = "float32",
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Kind:
        """Returns the model of `m2f_jax.load`; arguments and errors as there.

        Raises:
            ValueError: also if the source is a model of another kind than this class.
        """
        from m2f_jax.pretrained import load_kind

        return load_kind(cls, source, dtype, revision=revision, token=token)

    def save_pretrained(self, folder: str | os.PathLike):
        """Writes config.json, model.safetensors and, if it isn't there, preprocessor_config.json.

        Files of an earlier save are replaced once the new one is complete.
        """
        from m2f_jax.pretrained import save_model

        save_model(self, folder)

    def push_to_hub(
        self,
        repository: str,
        *,
        processor: Any = None,
        format: Literal["both", "m2f_jax", "huggingface"] = "both",
        results: Sequence[str | os.PathLike] = (),
        recipe: str | os.PathLike | None = None,
        license: str | None = None,
        datasets: Sequence[str] = (),
        private: bool = False,
        overwrite: bool = False,
        token: str | bool | None = None,
        dry_run: str | os.PathLike | None = None,
    ) -> str:
        """Uploads the model to the Hugging Face hub in one commit, with a model card.

        Args:
            repository: OWNER/NAME, which is made if it isn't there.
            processor: the `ImageProcessor`; by default one with the authors' test settings.
            format: "m2f_jax" for `load`, "huggingface" for transformers, or both, with that of
                transformers in a folder of its name.
            results: files results.json of `m2f eval`, whose scores go into the card.
            recipe: the train.json of `m2f train`, which is uploaded too.
            license: by the hub's name for it, such as "apache-2.0".
            datasets: the hub's names of the data sets that it was trained on.
            private: make a private repository.
            overwrite: replace a model that is there; it stays in the repository's history.
            token: by default the one you logged in with.
            dry_run: a new or empty folder to write instead of uploading.

        Returns:
            The address of the commit, or the folder of `dry_run`.

        Raises:
            FileExistsError: the repository holds a model, or the folder something.
            ValueError: results are of another model, or transformers can't express this one.
            PermissionError: the hub doesn't know you, or you may not write there.
            ConnectionError: the hub can't be reached, or refuses for another reason.
        """
        from m2f_jax.pretrained import checkpoint_of
        from m2f_jax.publishing.push import publication_of, push

        return push(
            checkpoint_of(self, processor),
            publication_of(repository, format, results, recipe, license, datasets),
            private=private,
            overwrite=overwrite,
            token=token,
            dry_run=dry_run,
        )

    @overload
    def __call__(
        self, pixel_values: Float[Array, "B H W 3"], *, all_layers: Literal[False] = False
    ) -> Predictions: ...
    @overload
    def __call__(
        self, pixel_values: Float[Array, "B H W 3"], *, all_layers: Literal[True]
    ) -> tuple[Predictions, ...]: ...
    def __call__(self, pixel_values, *, all_layers=False):
        """Computes classes and masks of every query.

        Args:
            pixel_values: float [B, H, W, 3], normalised RGB as `ImageProcessor` makes it; height
                and width are 32 or more.
            all_layers: return one `Predictions` per layer instead; for Mask2Former, that of the
                learned queries comes first.

        Returns:
            Class logits [B, Q, K + 1], the last one for "no object", and mask logits
            [B, Q, H / 4, W / 4], sides rounded up; both in float32.

        Raises:
            ValueError: `pixel_values` has another layout, type or a side under 32.
        """
        check_pixel_values(pixel_values, self.batch_axes)
        return forward(self, jnp.asarray(pixel_values), all_layers=all_layers)


def network(
    model: Model, pixel_values: Float[Array, "B *T H W 3"], *, all_layers: bool
) -> Predictions | tuple[Predictions, ...]:
    """Returns the last layer's predictions, or every layer's."""
    return through_stages(
        model, pixel_values, functools.partial(model.decoder, all_layers=all_layers)
    )


def training_network(
    model: Model,
    pixel_values: Float[Array, "B *T H W 3"],
    *,
    drop_key: jax.Array | None = None,
    remat: bool = False,
) -> LayerPredictions:
    """Returns every layer's predictions, for the losses.

    Args:
        model: the network.
        pixel_values: normalised RGB.
        drop_key: of stochastic depth and dropout; without it, nothing is dropped.
        remat: recompute the inner values of blocks and layers in the backward pass.
    """
    decode = functools.partial(model.decoder.every_layer, drop_key=folded(drop_key, 2))
    return through_stages(model, pixel_values, decode, drop_key=drop_key, remat=remat)


def through_stages(
    model: Model,
    pixel_values: Float[Array, "B *T H W 3"],
    decode: Callable[[FeaturePyramid], Any],
    *,
    drop_key: jax.Array | None = None,
    remat: bool = False,
) -> Any:
    """Runs backbone, pixel decoder and `decode` in turn, at the model's precision.

    Backbone and pixel decoder treat every frame of a clip as an image of its own.
    """
    *leading, height, width, channels = pixel_values.shape
    images = pixel_values.astype(model.dtype).reshape(-1, height, width, channels)
    with stage("backbone", model.dtype):
        features = model.backbone(images, drop_key=drop_key, remat=remat)
    with stage("pixel_decoder", model.dtype):
        pyramid = model.pixel_decoder(features, drop_key=folded(drop_key, 1), remat=remat)
        pyramid = jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), pyramid)
    with stage("decoder", model.dtype):
        return decode(pyramid)


@contextlib.contextmanager
def stage(name: str, dtype: jnp.dtype) -> Iterator[None]:
    """Sets the precision of a model's products, and the name of its kernels in a profile.

    Args:
        name: of the stage: the model's attribute.
        dtype: of the model's computation.
    """
    precision = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009 - untyped
    if precision is None and dtype == jnp.float32:
        precision = "highest"
    with jax.default_matmul_precision(precision), jax.named_scope(name):
        yield


def without_kernels(model: Model) -> Model:
    """Returns a model on the same arrays that uses no kernel of one kind of device.

    Such a kernel can't be exported, nor be divided among devices by XLA.
    """
    plain = nnx.merge(*nnx.split(model))
    plain.set_attributes(fused=False, raise_if_not_found=False)
    return plain


forward = jax.jit(network, static_argnames="all_layers")


def check_pixel_values(pixel_values: Any, batch_axes: Sequence[str]):
    """Refuses what isn't a batch of normalised channels-last images or clips.

    Raises:
        ValueError: the message names the shape or dtype, and what is expected.
    """
    shape, dtype = jnp.shape(pixel_values), jnp.result_type(pixel_values)
    expected = f"[{', '.join(batch_axes)}, height, width, 3]"
    if len(shape) != len(batch_axes) + 3:
        missing = len(batch_axes) + 3 - len(shape)
        hint = {
            1: f" (add a {batch_axes[0]} axis with pixel_values[None])",
            -1: "; clips are for VideoMask2Former, and this is a model of images",
        }
        raise ValueError(
            f"pixel_values has shape {shape}; expected {expected}{hint.get(missing, '')}"
        )
    if shape[-1] != 3:
        hint = "; it looks channels-first: use np.moveaxis(pixel_values, -3, -1)"
        raise ValueError(
            f"pixel_values has shape {shape}; expected {expected}"
            + (hint if shape[-3] == 3 else "")
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"pixel_values has dtype {dtype}; expected normalised floats. ImageProcessor turns "
            "uint8 images into them"
        )
    if min(shape[-3:-1]) < MIN_SIZE:
        raise ValueError(
            f"pixel_values is {shape[-3]} x {shape[-2]}; both sides must be at least {MIN_SIZE}"
        )
