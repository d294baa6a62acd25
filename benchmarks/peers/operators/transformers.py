"""The deformable attention of transformers in deformable_attention.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from measuring.timing import Call
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from m2f_jax.sizes import Size
from peers.on_torch import OnTorch
from peers.operators.inputs import Inputs


class Operator(OnTorch):
    """An operator in terms of grid_sample, all of it in one dtype."""

    def __init__(self, inputs: Inputs, sizes: Sequence[Size], device: str, threads: int):
        super().__init__(device, threads)
        self.sizes, self.inputs = list(sizes), inputs

    def operator(self, values: Any, locations: Any, weights: Any) -> Any:
        return multi_scale_deformable_attention(values, self.sizes, locations, weights)

    def arrays(self, dtype: str) -> list[torch.Tensor]:
        """Returns the inputs on the device."""
        return [self.place_array(x, getattr(torch, dtype)) for x in self.inputs]

    def forward(self, dtype: str) -> Call:
        return self.call(self.operator, *self.arrays(dtype)[:3])

    def both(self, dtype: str) -> Call:
        """Returns a call for the result and its gradients."""
        *arrays, gradient = self.arrays(dtype)
        for array in arrays:
            array.requires_grad_()

        def begin() -> Any:
            result = self.operator(*arrays)
            return result, *torch.autograd.grad(result, arrays, gradient)

        return Call(begin, self.wait)

    def fetch(self, result: Sequence[Any]) -> list[np.ndarray]:
        """Returns results on the host, in float32."""
        return [x.detach().float().cpu().numpy() for x in result]

    def memory(self, dtype: str) -> dict[str, int]:
        """Returns bytes beside the inputs, counted during a call; on a CPU nothing counts them."""
        if self.device == "cpu":
            return {}
        found = {}
        for name, make in (("forward", self.forward), ("forward and gradient", self.both)):
            call = make(dtype)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            found[name] = torch.cuda.max_memory_allocated() - before
        return found
