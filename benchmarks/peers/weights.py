"""Random weights that all sides load."""

from pathlib import Path

import numpy as np

from m2f_jax.config import ModelConfig

HUGGING_FACE = "huggingface"  # the folder of transformers' format, below that of ours
NOISE = {  # standard deviations for parameters that start so alike that they would hardly count
    "sampling_offsets": 0.02,
    "attention_weights": 0.02,
    "relative_position_bias": 0.2,
    "decoder.quer": 1.0,
    "level_embeddings": 1.0,
}


def save_random_weights(config: ModelConfig, folder: Path, *, noisy: bool = True, seed: int = 0):
    """Writes a fresh model in both formats, ours and that of transformers.

    As the authors draw it, all queries sample the same points with equal weights, and windows have
    hardly any bias. With noise, every parameter counts.
    """
    import jax
    from m2f_jax.convert import convert

    from m2f_jax.modeling.parameters import abstract_model, fill, parameters
    from m2f_jax.training import initialize

    with jax.default_device(jax.devices("cpu")[0]):
        model = initialize(config, seed)
        if noisy:
            rng, arrays = np.random.default_rng(0), {}
            for name, value in parameters(model).items():
                std = next((std for part, std in NOISE.items() if part in name), 0.0)
                noise = std * rng.standard_normal(value.shape, np.float32)
                arrays[name] = jax.numpy.asarray(value[...] + noise)
            model = fill(abstract_model(config), arrays)
        model.save_pretrained(folder)
    convert(folder, folder / HUGGING_FACE, to="huggingface")
