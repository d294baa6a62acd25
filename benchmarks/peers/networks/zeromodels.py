"""ZeroModels' network in inference.py: Keras on JAX, with random weights of its own."""

import importlib
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring.timing import Call

from m2f_jax.config import Mask2FormerConfig
from peers.on_jax import OnJax


class Network(OnJax):
    """A model of the architecture in a folder."""

    def __init__(self, folder: Path, options: Any):
        super().__init__(options.device, "tensorfloat32" if options.tf32 else "highest")
        os.environ["KERAS_BACKEND"] = "jax"
        keras: Any = importlib.import_module("keras")
        theirs: Any = importlib.import_module("zeromodels.models.mask2former")
        keras.config.set_dtype_policy(options.dtype)
        ours: Any = Mask2FormerConfig.load(folder.parent / "config.json")
        config = theirs.Mask2FormerConfig(
            image_size=options.size,
            backbone_embed_dim=ours.backbone.embed_dim,
            backbone_depths=ours.backbone.depths,
            backbone_num_heads=ours.backbone.num_heads,
            backbone_window_size=ours.backbone.window_size,
            num_queries=ours.decoder.num_queries,
            num_classes=ours.num_classes,
        )
        with jax.default_device(self.device):
            model = theirs.Mask2FormerUniversalSegment(config)
        variables = model.trainable_variables, model.non_trainable_variables
        self.weights = [[variable.value for variable in group] for group in variables]
        self.forward = jax.jit(lambda weights, x: model.stateless_call(*weights, x)[0])

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.call(self.forward, self.weights, pixel_values)

    def calls(self, inputs: Any) -> dict[str, Call]:
        """Returns a call for each row that it has."""
        return {"whole forward": self.network(inputs.pixel_values)}
