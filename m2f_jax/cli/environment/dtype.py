"""The dtype that a command computes in."""

from m2f_jax.cli.terminal.console import terminal
from m2f_jax.default_dtype import Dtype, default_dtype, slow_bfloat16


def dtype_of(asked: Dtype | None) -> Dtype:
    """Returns the dtype that --dtype names, or else this device's own; says where it is slow."""
    dtype = asked or default_dtype()
    say_if_slow(dtype)
    return dtype


def say_if_slow(dtype: str):
    """Prints that this processor lacks instructions for a dtype, where it does."""
    if note := slow_bfloat16(dtype):
        terminal().print(note)
