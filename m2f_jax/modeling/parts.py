"""Which module implements which config: the tables of the network's parts.

The contracts, where `cfg` is the part's frozen config dataclass:

* Backbone: `Module(cfg, *, dtype, rngs)`, called with images [B, H, W, 3] as `backbone(images, *,
  drop_key=None, remat=False)`. Returns four maps at strides 4, 8, 16 and 32 (sides rounded up), of
  the widths `cfg.channels`. A `drop_key` asks for stochastic depth or dropout, drawn from it;
  `remat` for recomputing in the backward pass what can be recomputed.
* Pixel decoder: `Module(cfg, in_channels, *, dtype, rngs)`, called with the backbone's maps as
  `pixel_decoder(features, *, drop_key=None, remat=False)`. Returns a
  `FeaturePyramid` of widths `cfg.dim` and `cfg.mask_dim`.
* Transformer decoder: `Module(cfg, num_classes, mask_dim, *, dtype, rngs)`, called with a
  `FeaturePyramid` as `decoder(pyramid, *, all_layers=False)`. Returns `Predictions`, or one per
  layer. Its method `every_layer(pyramid, *, drop_key=None)` returns `LayerPredictions`, for the
  losses. Its layer of class logits is called `class_head`, by which training on other classes
  finds it, to initialise it anew.
"""

import dataclasses
from collections.abc import Callable, MutableMapping
from typing import Any

from m2f_jax import config
from m2f_jax.modeling.backbones.resnet import ResNet
from m2f_jax.modeling.backbones.swin import SwinTransformer
from m2f_jax.modeling.pixel_decoders.deformable import PixelDecoder
from m2f_jax.modeling.pixel_decoders.fpn import FPNPixelDecoder
from m2f_jax.modeling.pixel_decoders.maskformer import MaskFormerPixelDecoder
from m2f_jax.modeling.transformer_decoders.masked_attention import TransformerDecoder
from m2f_jax.modeling.transformer_decoders.maskformer import MaskFormerDecoder

MODULES: dict[type, Callable[..., Any]] = {
    config.SwinConfig: SwinTransformer,
    config.ResNetConfig: ResNet,
    config.PixelDecoderConfig: PixelDecoder,
    config.FPNPixelDecoderConfig: FPNPixelDecoder,
    config.MaskFormerPixelDecoderConfig: MaskFormerPixelDecoder,
    config.TransformerDecoderConfig: TransformerDecoder,
    config.MaskFormerDecoderConfig: MaskFormerDecoder,
}


def register_backbone(name: str, config_class: type, module: Callable[..., Any]):
    """Adds a backbone under the name that stands for it in JSON.

    Args:
        name: the value of `"type"` in files.
        config_class: a frozen dataclass with the property `channels`.
        module: the module that is built from it, as the contract above says.

    Raises:
        TypeError: `config_class` isn't a frozen dataclass.
        ValueError: the name or the class already stands for another part.
    """
    _register(config.BACKBONES, name, config_class, module)


def register_pixel_decoder(name: str, config_class: type, module: Callable[..., Any]):
    """Adds a pixel decoder; as `register_backbone`, with the properties `dim` and `mask_dim`."""
    _register(config.PIXEL_DECODERS, name, config_class, module)


def register_decoder(name: str, config_class: type, module: Callable[..., Any]):
    """Adds a Transformer decoder; as `register_backbone`, with `dim` and `num_queries`."""
    _register(config.DECODERS, name, config_class, module)


def _register(
    table: MutableMapping[str, Any], name: str, config_class: type, module: Callable[..., Any]
):
    parameters = getattr(config_class, "__dataclass_params__", None)
    if not dataclasses.is_dataclass(config_class) or not getattr(parameters, "frozen", False):
        raise TypeError(f"{config_class.__name__} must be a dataclass with frozen=True")
    earlier = table.get(name)
    # The same class defined once more, as when a notebook's cell is run again, replaces itself.
    if earlier is not None and _place(earlier) != _place(config_class):
        raise ValueError(f"{name!r} already stands for {earlier.__name__}; choose another name")
    if config_class in MODULES and earlier is not config_class:
        raise ValueError(f"{config_class.__name__} is already registered under another name")
    if earlier is not None:
        del MODULES[earlier]
    table[name] = config_class
    MODULES[config_class] = module


def _place(config_class: type) -> tuple[str, str]:
    return config_class.__module__, config_class.__qualname__


def module_of(cfg: Any) -> Callable[..., Any]:
    """Returns the module to build from a part's config.

    Raises:
        ValueError: no module is registered for configs of this class.
    """
    if type(cfg) not in MODULES:
        raise ValueError(
            f"no module is registered for {type(cfg).__name__}; call m2f_jax.register_backbone, "
            "register_pixel_decoder or register_decoder first"
        )
    return MODULES[type(cfg)]
