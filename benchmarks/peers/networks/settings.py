"""The settings of a network that is measured."""

from typing import NamedTuple

from m2f_jax.sizes import Size


class Settings(NamedTuple):
    """The part of inference.py's options that every `Network` takes; these will do as well.

    Attributes:
        size: height and width of the input.
        batch: images at a time.
        dtype: "float32" or "bfloat16".
        device: "cpu" or "cuda".
        threads: processors to use; None for all.
        tf32: TensorFloat-32 for float32 products on a GPU.
        compile: whether there is a row for torch.compile.
    """

    size: Size
    batch: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    tf32: bool = False
    compile: bool = False
