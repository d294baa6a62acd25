"""ResNets, by the names of detectron2 and of Hugging Face."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from m2f_jax.config import ResNetConfig

from ...files.formats import StoredTensor
from ..huggingface.json_fields import about, check_fields, field
from ..origins import AuthorsPart, HuggingFaceBackbone, HuggingFacePart, PartShapes, PartTables
from ..rules import CONVOLUTION, Rule, Table, frozen_norm, kernel

STAGES = ("res2", "res3", "res4", "res5")
COUNTERS = r".*\.num_batches_tracked"  # of a norm that was trained; no result depends on them
REQUIRED = {  # fields of Hugging Face's whose other values mean another network
    "model_type": "resnet",
    "layer_type": "bottleneck",
    "num_channels": 3,
    "hidden_act": "relu",
    "downsample_in_bottleneck": False,
    "downsample_in_first_stage": False,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
CONVS = ("conv1", "conv2", "conv3")


def conv_norm(theirs: str, their_norm: str, ours: str) -> tuple[Rule, ...]:
    """Returns the rules of a convolution without bias and its norm."""
    return (
        *kernel(theirs, f"{ours}.conv", CONVOLUTION),
        *frozen_norm(their_norm, f"{ours}.norm"),
    )


AUTHORS_RULES = (  # theirs, ours; {} is a layer number
    *(
        rule
        for stage in STAGES
        for conv in (*CONVS, "shortcut")
        for rule in conv_norm(
            f"{stage}.{{}}.{conv}", f"{stage}.{{}}.{conv}.norm", f"{stage}.{{}}.{conv}"
        )
    ),
    *(
        rule
        for i in range(3)  # only DeepLab's stem has the second and the third
        for rule in conv_norm(f"stem.conv{i + 1}", f"stem.conv{i + 1}.norm", f"stem.convs.{i}")
    ),
)


def hugging_face_layer(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Returns the rules of one of Hugging Face's convolutions."""
    return conv_norm(f"{theirs}.convolution", f"{theirs}.normalization", ours)


HUGGING_FACE_RULES = (
    *hugging_face_layer("embedder.embedder", "stem.convs.0"),
    *(
        rule
        for i, stage in enumerate(STAGES)
        for part, conv in (
            ("shortcut", "shortcut"),
            *((f"layer.{k}", conv) for k, conv in enumerate(CONVS)),
        )
        for rule in hugging_face_layer(
            f"encoder.stages.{i}.layers.{{}}.{part}", f"{stage}.{{}}.{conv}"
        )
    ),
)


def infer(tensors: PartShapes, _num_heads: int) -> ResNetConfig:
    """Returns the config behind a backbone's shapes.

    Raises:
        ValueError: a tensor whose shape is needed is missing.
    """
    last = max(1, tensors.count_named("stem.conv"))
    return ResNetConfig(
        depths=tuple(tensors.count(stage) for stage in STAGES),
        stem_dim=tensors.get(f"stem.conv{last}.weight", 4)[0],
        dim=tensors.get("res2.0.conv3.weight", 4)[0],
        deeplab=last == 3,
    )


def read(values: Mapping[str, Any], where: str) -> ResNetConfig:
    """Returns our config for a `backbone_config` of Hugging Face's.

    Raises:
        ValueError: a field is missing, of a wrong type, or has a value that means another network.
    """
    check_fields(values, REQUIRED, where)
    widths = field(values, "hidden_sizes", tuple[int, ...], where)
    sizes = {
        "depths": field(values, "depths", tuple[int, ...], where),
        "stem_dim": field(values, "embedding_size", int, where),
        "dim": widths[0] if widths else 0,
    }
    with about(where):
        config = ResNetConfig(**sizes)
    if widths != config.channels:
        raise ValueError(
            f"{where}: hidden_sizes is {list(widths)!s:.80}; only widths that double are supported"
        )
    return config


def write(config: ResNetConfig) -> dict[str, Any]:
    """Returns the `backbone_config` with which transformers builds the same backbone.

    Raises:
        ValueError: transformers has no such ResNet.
    """
    if config.deeplab:
        raise ValueError("transformers has no ResNet with DeepLab's stem (R101c)")
    return {
        **REQUIRED,
        "depths": list(config.depths),
        "embedding_size": config.stem_dim,
        "hidden_sizes": list(config.channels),
    }


def counters(config: ResNetConfig) -> dict[str, StoredTensor]:
    """Returns the counters of batches that transformers stores with every norm, all 0."""
    layers = ["embedder.embedder"]
    for i, depth in enumerate(config.depths):
        blocks = [f"encoder.stages.{i}.layers.{j}" for j in range(depth)]
        layers += [f"{block}.layer.{k}" for block in blocks for k in range(len(CONVS))]
        layers.append(f"{blocks[0]}.shortcut")
    names = (f"{layer}.normalization.num_batches_tracked" for layer in layers)
    return {name: StoredTensor.of(np.zeros((), np.int64)) for name in names}


TABLES = PartTables(
    authors=AuthorsPart(
        Table(AUTHORS_RULES, unused=(COUNTERS,)), mark="stem.conv1.weight", infer=infer
    ),
    huggingface=HuggingFacePart(
        Table(HUGGING_FACE_RULES, unused=(COUNTERS,)),
        HuggingFaceBackbone("resnet", read, write),
        counters,
    ),
)
