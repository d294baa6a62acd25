"""Hugging Face's config.json and preprocessor_config.json, in both directions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from m2f_jax.config import Mask2FormerConfig, MaskFormerConfig, ModelConfig, Task
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import Label

from . import mask2former, maskformer
from .backbones import write_backbone
from .json_fields import about, check_fields, field

CONFIG = "config.json"
NO_OBJECT_WEIGHT = 0.1
UNLIMITED = 10**6  # transformers has no shortest edge without a longest one
REQUIRED_OF_PROCESSOR = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}


class HuggingFaceModel(NamedTuple):
    """A kind of model at Hugging Face.

    Attributes:
        config_class: of our config.
        model_type: transformers' name of this kind.
        architecture: the name of the class there.
        processor: the name of the class of its image processor.
        read: returns our config for one of theirs.
        write: returns the fields of its decoders, given our config.
        count_queries: returns the number of queries of one of theirs.
    """

    config_class: type[ModelConfig]
    model_type: str
    architecture: str
    processor: str
    read: Callable[[Mapping[str, Any], tuple[Label, ...], Task, str], ModelConfig]
    write: Callable[[Any], dict[str, Any]]
    count_queries: Callable[[Mapping[str, Any], str], int]


MODELS = (
    HuggingFaceModel(
        Mask2FormerConfig,
        "mask2former",
        "Mask2FormerForUniversalSegmentation",
        "Mask2FormerImageProcessor",
        mask2former.read,
        mask2former.write,
        mask2former.count_queries,
    ),
    HuggingFaceModel(
        MaskFormerConfig,
        "maskformer",
        "MaskFormerForInstanceSegmentation",
        "MaskFormerImageProcessor",
        maskformer.read,
        maskformer.write,
        maskformer.count_queries,
    ),
)


def model_named(model_type: Any) -> HuggingFaceModel | None:
    """Returns the kind of model with this `model_type`; None if it isn't known here."""
    return next((model for model in MODELS if model.model_type == model_type), None)


def model_of(config: ModelConfig) -> HuggingFaceModel:
    """Returns the kind of a model of ours.

    Raises:
        ValueError: transformers has no such kind.
    """
    for model in MODELS:
        if isinstance(config, model.config_class):
            return model
    kind = type(config).__name__.removesuffix("Config")
    raise ValueError(
        f"transformers has no class for a {kind}; this one stays in this package's format"
    )


def config_from_huggingface(
    values: Mapping[str, Any], labels: tuple[Label, ...], task: Task, where: str = CONFIG
) -> ModelConfig:
    """Returns our config for one of theirs.

    Raises:
        ValueError: a field is missing, of a wrong type, or has a value that means another network;
            the message begins with `where` and names it.
    """
    architectures = field(values, "architectures", tuple[str, ...] | None, where, None) or ()
    if any("Video" in name for name in architectures):
        raise ValueError(
            f"{where}: architectures names a video model, which transformers has no class for; "
            "open the authors' file of it with m2f_jax.VideoMask2Former"
        )
    model = model_named(values.get("model_type"))
    if model is None:
        known = " or ".join(repr(model.model_type) for model in MODELS)
        raise ValueError(
            f"{where}: model_type is {values.get('model_type')!r:.80}; expected {known}"
        )
    return model.read(values, labels, task, where)


def class_names(values: Mapping[str, Any], where: str = CONFIG) -> list[str]:
    """Returns the classes of a config, by index.

    Raises:
        ValueError: `id2label` doesn't number its classes from 0, or one has no name; the message
            begins with `where`.
    """
    id2label = values.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})  # left out if it's this
    keys = [str(k) for k in range(len(id2label))] if isinstance(id2label, Mapping) else []
    if not keys or set(keys) != set(id2label):
        raise ValueError(f'{where}: id2label needs the classes under "0", "1", ...')
    return [field(id2label, key, str, f"{where}: id2label") for key in keys]


def config_to_huggingface(config: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """Returns the config.json with which transformers builds the same network.

    Raises:
        ValueError: their configuration can't express the architecture; the message names the part.
    """
    model = model_of(config)
    names = [label.name for label in config.labels]
    return {
        "architectures": [model.architecture],
        "model_type": model.model_type,
        **model.write(config),
        "backbone_config": write_backbone(config),
        "no_object_weight": NO_OBJECT_WEIGHT,
        "id2label": {str(k): name for k, name in enumerate(names)},
        "label2id": {name: k for k, name in enumerate(names)},
        "dtype": dtype,
    }


def processor_from_huggingface(
    values: Mapping[str, Any], processor: ImageProcessor, where: str
) -> ImageProcessor:
    """Returns `processor` with the size, statistics and divisor of their preprocessor_config.json.

    Their square {"height", "width"} distorts images; its side becomes the shortest edge here.

    Raises:
        ValueError: a field is of a wrong type or asks for something unsupported; the message
            begins with `where`.
    """
    check_fields(values, REQUIRED_OF_PROCESSOR, where)
    size = values.get("size")
    if not isinstance(size, Mapping):  # an early form: the shortest edge alone
        size = {"shortest_edge": size}
    size = {key: field(size, key, int | None, f"{where}: size") for key in size}
    name = "max_size" if "max_size" in values else "_max_size"
    longest = field(values, name, int | None, where, None)
    longest = longest if size.get("longest_edge") is None else size["longest_edge"]
    sides = [size.get(key) for key in ("shortest_edge", "height", "width")]
    sides = [side for side in sides if side is not None]
    if field(values, "do_resize", bool, where, True):
        shortest = min(sides, default=processor.shortest_edge)
    else:
        shortest = None

    def scaled(key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        stored = field(values, key, tuple[float, ...] | None, where, None)
        return default if stored is None else tuple(round(255 * x, 3) for x in stored)

    changes = {
        "shortest_edge": shortest,
        "longest_edge": None if longest == UNLIMITED else longest,
        "size_divisor": field(values, "size_divisor", int, where, 32),
        "mean": scaled("image_mean", processor.mean),
        "std": scaled("image_std", processor.std),
    }
    with about(where):
        return dataclasses.replace(processor, **changes)


def processor_to_huggingface(processor: ImageProcessor, config: ModelConfig) -> dict[str, Any]:
    """Returns a preprocessor_config.json for transformers with the same size and statistics.

    transformers can't keep an image's size up to a limit, so without a shortest edge the limit is
    lost.
    """
    size = {"longest_edge": processor.longest_edge or UNLIMITED}
    if processor.shortest_edge is not None:
        size["shortest_edge"] = processor.shortest_edge
    return {
        "image_processor_type": model_of(config).processor,
        "do_resize": processor.shortest_edge is not None,
        "size": size,
        "size_divisor": processor.size_divisor,
        "resample": 2,
        **REQUIRED_OF_PROCESSOR,
        "image_mean": [x / 255 for x in processor.mean],
        "image_std": [x / 255 for x in processor.std],
        "ignore_index": 255,
        "do_reduce_labels": False,
    }
