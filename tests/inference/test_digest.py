"""A model's digest tells it from every other one."""

import dataclasses

import jax
import numpy as np
from flax import nnx

from m2f_jax.inference.digest import digest_of_model
from m2f_jax.labels import Label


def test_every_part_of_a_model_counts(micro):
    config = micro.config
    arrays = jax.tree.map(np.array, nnx.as_pure(nnx.state(micro)))
    digest = digest_of_model(config, arrays)
    assert digest == digest_of_model(config, jax.tree.map(np.copy, arrays))
    leaves, tree = jax.tree.flatten(arrays)
    for k in (0, len(leaves) - 1):
        changed = [np.copy(x) for x in leaves]
        changed[k].flat[-1] = np.nextafter(changed[k].flat[-1], np.float32(9))
        assert digest_of_model(config, jax.tree.unflatten(tree, changed)) != digest
    labels = (Label(id=7, name="other", is_thing=True), *config.labels[1:])
    decoder = dataclasses.replace(config.decoder, num_heads=4)
    for changes in ({"labels": labels}, {"decoder": decoder}):
        assert digest_of_model(dataclasses.replace(config, **changes), arrays) != digest
    halves = jax.tree.map(lambda x: x.astype(np.float16), arrays)
    assert digest_of_model(config, halves) != digest
