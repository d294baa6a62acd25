"""The digest of a model, which identifies its results."""

import hashlib
import json
from typing import Any

import jax
import numpy as np

from m2f_jax.config import ModelConfig


def digest_of_model(config: ModelConfig, arrays: Any) -> str:
    """Returns a digest of a model: its configuration, and the bytes of its parameters.

    Args:
        config: of the model.
        arrays: the parameters, as any tree of arrays.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(config.to_dict(), sort_keys=True).encode())
    for path, array in jax.tree_util.tree_leaves_with_path(arrays):
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
