"""The base of all sides on JAX."""

from collections.abc import Callable
from typing import Any

import jax
from measuring.timing import Call


class OnJax:
    """A device, and calls on it at a precision of float32 products; None is JAX's own."""

    def __init__(self, device: str, precision: str | None = None):
        self.device = jax.devices(device)[0]
        self.precision = precision

    def call(self, function: Callable[..., Any], *inputs: Any) -> Call:
        """Returns a call of a function with inputs on the device."""
        placed = jax.device_put(inputs, self.device)

        def begin() -> Any:
            with jax.default_matmul_precision(self.precision):
                return function(*placed)

        return Call(begin, jax.block_until_ready)

    def peak_device_bytes(self) -> int:
        """Returns the most memory that the device has held."""
        return (self.device.memory_stats() or {})["peak_bytes_in_use"]
