"""Hugging Face's checkpoints: the places of the parts' tensors, and further tensors."""

import numpy as np

from m2f_jax.config import ModelConfig

from ...files.formats import StoredTensor
from ..parts import compose, find_part
from ..rules import Table, joined, placed
from .config import NO_OBJECT_WEIGHT

PLACES = {
    "backbone": "model.pixel_level_module.encoder.",
    "pixel_decoder": "model.pixel_level_module.decoder.",
    "decoder": "",  # its class head lies beside model.transformer_module
}
WHOLE = Table(
    rules=(),
    unused=(r"criterion\.empty_weight",),  # the loss's class weights
    spellings=((r"module\.", ""),),  # of a DistributedDataParallel
)


def table_of(config: ModelConfig) -> Table:
    """Returns the table of a whole model's tensors.

    Raises:
        ValueError: transformers has no such part.
    """
    return joined([WHOLE, compose(config, "huggingface", PLACES)])


def spellings_of(config: ModelConfig) -> tuple[tuple[str, str], ...]:
    """Returns the spellings that turn the table's names into transformers' for such a model."""
    return joined(
        placed(
            Table(
                (),
                spellings=find_part(config, role, "huggingface").spellings_in.get(type(config), ()),
            ),
            place,
            "",
        )
        for role, place in PLACES.items()
    ).spellings


def extra_tensors(config: ModelConfig) -> dict[str, StoredTensor]:
    """Returns the tensors that transformers stores beyond our parameters, such as loss weights."""
    weights = np.ones(config.num_classes + 1, np.float32)
    weights[-1] = NO_OBJECT_WEIGHT
    tensors = {"criterion.empty_weight": StoredTensor.of(weights)}
    for role, place in PLACES.items():
        extra = find_part(config, role, "huggingface").extra(getattr(config, role))
        tensors |= {place + name: tensor for name, tensor in extra.items()}
    return tensors
