"""Options that several benchmarks beside peers have."""

import argparse

MULTIPLE = 32  # of pixels: sides that every peer takes as they are


def count(text: str) -> int:
    """A number of things."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"1 or more, not {text}")
    return value


def side(text: str) -> int:
    """A height or a width."""
    value = int(text)
    if value < MULTIPLE or value % MULTIPLE:
        raise argparse.ArgumentTypeError(f"multiples of {MULTIPLE}, not {text}")
    return value


def add_size(parser: argparse.ArgumentParser, default: tuple[int, int]):
    """The size of the images."""
    parser.add_argument(
        "--size",
        type=side,
        nargs=2,
        default=default,
        metavar=("HEIGHT", "WIDTH"),
        help=f"of the images: multiples of {MULTIPLE} (default: {default[0]} {default[1]})",
    )


def add_machine(parser: argparse.ArgumentParser):
    """What is computed with."""
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="by default cuda, where every peer has it"
    )
    parser.add_argument("--threads", type=count, help="on the CPU, of every peer; by default all")


def add_tf32(parser: argparse.ArgumentParser):
    """How exact float32 products are."""
    parser.add_argument("--tf32", action="store_true", help="for float32 products on a GPU")


def products(tf32: bool) -> str:
    """What --tf32 means, for people."""
    return "TensorFloat-32" if tf32 else "full precision"
