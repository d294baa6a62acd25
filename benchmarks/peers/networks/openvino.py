"""OpenVINO's network in inference.py: that of transformers, traced and compiled for a CPU."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring.timing import Call
from transformers import AutoModelForUniversalSegmentation
from transformers.utils import logging

from m2f_jax.inference.export.onnx.openvino import import_openvino

openvino = import_openvino()


class Network:
    """The model with the weights in a folder, for images of one size.

    It is converted in float32. `options.dtype` is what OpenVINO is told to compute in, and it does
    so where it expects that to pay.
    """

    def __init__(self, folder: Path, options: Any):
        if options.device != "cpu":
            raise SystemExit("--peers openvino: on a CPU only; add --device cpu")
        converted = convert(folder, options.batch, options.size)
        precision = {"float32": "f32", "bfloat16": "bf16"}[options.dtype]
        hints = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": options.threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.compiled = openvino.compile_model(converted, "CPU", hints)

    def network(self, pixel_values: Any) -> Call:
        maps = np.ascontiguousarray(np.moveaxis(np.asarray(pixel_values, np.float32), -1, 1))
        return Call(lambda: self.compiled([maps]), lambda results: results)

    def predictions(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns class and mask logits."""
        results = self.network(pixel_values)()
        return results[0], results[1]

    def calls(self, inputs: Any) -> dict[str, Callable[[], Any]]:
        """Returns a call for each row that it has."""
        return {"whole forward": self.network(inputs.pixel_values)}


@functools.cache
def convert(folder: Path, batch: int, size: tuple[int, int]) -> Any:
    """Returns the model as OpenVINO has it, which takes minutes."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model: Any = AutoModelForUniversalSegmentation.from_pretrained(folder).eval()
    shape = [batch, 3, *size]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace, which it calls, is deprecated
        return openvino.convert_model(
            Logits(model), example_input=torch.zeros(shape), input=[shape]
        )


class Logits(torch.nn.Module):
    """A model that returns class and mask logits and nothing else."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(pixel_values)
        return output.class_queries_logits, output.masks_queries_logits
