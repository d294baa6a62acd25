"""The base of all sides on PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring.timing import Call
from transformers.utils import logging


class OnTorch:
    """A device, and calls on it without gradients."""

    def __init__(self, device: str, threads: int, *, tf32: bool = False):
        logging.disable_progress_bar()  # no progress bars and advice between ours
        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        self.device = device

    def wait(self, result: Any = None) -> Any:
        """Waits until the device is done, and returns the result."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return result

    def call(self, function: Callable[..., Any], *inputs: Any, **named: Any) -> Call:
        """Returns a call of a function."""

        def begin() -> Any:
            with torch.inference_mode():
                return function(*inputs, **named)

        return Call(begin, self.wait)

    def place_array(self, array: Any, dtype: torch.dtype) -> torch.Tensor:
        """Returns an array on the device."""
        return torch.from_numpy(np.array(array)).to(self.device, dtype)

    def peak_device_bytes(self) -> int:
        """Returns the most memory that the device has held."""
        return torch.cuda.max_memory_allocated()
