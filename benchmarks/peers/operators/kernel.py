"""The authors' CUDA kernel in deformable_attention.py, from the package torch-ms-deform-attn."""

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from m2f_jax.sizes import Size
from peers.operators import transformers
from peers.operators.inputs import Inputs


class Operator(transformers.Operator):
    """An operator with other arguments."""

    def __init__(self, inputs: Inputs, sizes: Sequence[Size], device: str, threads: int):
        super().__init__(inputs, sizes, device, threads)
        self.kernel = importlib.import_module("torch_ms_deform_attn").ms_deform_attn
        self.on_device = torch.tensor(self.sizes, device=device)
        ends = self.on_device.prod(1).cumsum(0)
        self.starts = torch.cat([ends.new_zeros(1), ends[:-1]])

    def operator(self, values: Any, locations: Any, weights: Any) -> Any:
        return self.kernel(values, self.on_device, self.starts, locations, weights)
