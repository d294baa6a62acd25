"""This project's deformable attention in deformable_attention.py."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measuring.timing import Call

from m2f_jax.ops.ms_deform_attn import ms_deform_attn
from m2f_jax.sizes import Size
from peers.on_jax import OnJax
from peers.operators.inputs import Inputs


class Operator(OnJax):
    """The operator; locations stay in float32, as in the pixel decoder."""

    def __init__(self, inputs: Inputs, sizes: Sequence[Size], device: str, threads: int):
        del threads  # of this process, which is kept to them
        super().__init__(device)
        self.inputs = inputs

        def operator(values: Any, locations: Any, weights: Any) -> Any:
            return ms_deform_attn(values, sizes, locations, weights)

        def with_gradients(values: Any, locations: Any, weights: Any, gradient: Any) -> Any:
            result, derivative = jax.vjp(operator, values, locations, weights)
            return result, *derivative(gradient)

        self.operator, self.with_gradients = jax.jit(operator), jax.jit(with_gradients)

    def arrays(self, dtype: str) -> list[jax.Array]:
        """Returns the inputs on the device."""
        dtypes = self.inputs._replace(
            values=dtype, locations="float32", weights=dtype, gradient=dtype
        )
        placed = jax.device_put(self.inputs, self.device)
        return [x.astype(jnp.dtype(name)) for x, name in zip(placed, dtypes, strict=True)]

    def forward(self, dtype: str) -> Call:
        return self.call(self.operator, *self.arrays(dtype)[:3])

    def both(self, dtype: str) -> Call:
        """Returns a call for the result and its gradients."""
        return self.call(self.with_gradients, *self.arrays(dtype))

    def fetch(self, result: Sequence[Any]) -> list[np.ndarray]:
        """Returns results on the host, in float32."""
        return [np.asarray(x).astype(np.float32) for x in result]

    def memory(self, dtype: str) -> dict[str, int]:
        """Returns bytes beside the inputs, as the compiler plans them: results and temporaries."""
        arrays = self.arrays(dtype)
        lowered = {
            "forward": self.operator.lower(*arrays[:3]),
            "forward and gradient": self.with_gradients.lower(*arrays),
        }
        planned: Any = {name: x.compile().memory_analysis() for name, x in lowered.items()}
        return {
            name: memory.temp_size_in_bytes + memory.output_size_in_bytes
            for name, memory in planned.items()
        }
