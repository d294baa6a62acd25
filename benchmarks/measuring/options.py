"""The options of the scripts: dataclasses that inherit from those below, read by tyro."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from m2f_jax.bounds import Between, check_bounds
from measuring.machine import choose_device, device_kind, limit_threads, share_device

MULTIPLE = 32  # of pixels: sides that every peer takes as they are

Count = Annotated[int, Between(1)]
Size = Annotated[tuple[int, int], Between(MULTIPLE), tyro.conf.arg(metavar="HEIGHT WIDTH")]
StreetCounts = Annotated[tuple[int, int], Between(1), tyro.conf.arg(metavar="TRAIN VAL")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class Reported:
    """The files of a report, which is printed anyway."""

    json: File = None
    """Also write everything into this file."""
    markdown: File = None
    """Also write the tables into this file."""


@dataclass(frozen=True, kw_only=True)
class Compared(Reported):
    """A report's files, and the record that its ratios are compared with."""

    repeats: Count = 5
    """How often everything is measured; medians are shown."""
    against: File = None
    """Compare ratios with those that --json wrote here; exit with 1 if one is worse."""
    margin: Annotated[float, Between(0)] = 10
    """Percent by which a ratio may rise without being worse."""


@dataclass(frozen=True, kw_only=True)
class OnMachine:
    """The size, dtype, device and processors, which all sides share."""

    size: Size = (384, 384)
    """Height and width of the images, in multiples of 32."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The dtype of the computation."""
    device: Literal["cpu", "cuda"] | None = None
    """The device; by default cuda, where every side has it."""
    threads: Annotated[int | None, Between(1)] = None
    """Processors that every side may use; by default all."""


@dataclass(frozen=True, kw_only=True)
class OnStreets(Reported):
    """The streets that small models are trained on, and where training runs are kept."""

    data: Annotated[Path, tyro.conf.arg(metavar="ROOT")]
    """A Cityscapes tree with train and val; where nothing is, streets are drawn into it."""
    images: StreetCounts = (800, 100)
    """How many streets to draw for training and for scoring."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where training runs are kept, so that an interrupted comparison goes on."""


def parse(kind: type[Options], arguments: Sequence[str] | None) -> Options:
    """Returns the options on the command line.

    Raises:
        SystemExit: they can't be read, a number is out of its range, or a file can't be written.
    """
    options = tyro.cli(kind, args=arguments, config=(tyro.conf.HelptextFromCommentsOff,))
    with refusing(""):
        check_bounds(options, "", named=lambda field: f"--{field.replace('_', '-')}")
    for name, value in vars(options).items():
        if value == ():
            raise SystemExit(f"--{name}: at least one")
    if isinstance(options, OnMachine) and any(side % MULTIPLE for side in options.size):
        raise SystemExit(f"--size: multiples of {MULTIPLE}, not {options.size}")
    for name in ("json", "markdown", "plot"):
        path = getattr(options, name, None)
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise SystemExit(f"--{name}: {path} is a folder, or is in one that isn't there")
    return options


@contextlib.contextmanager
def refusing(option: str) -> Iterator[None]:
    """Ends the script where a value is refused inside; the message begins with the option."""
    try:
        yield
    except ValueError as error:
        raise SystemExit(f"{option}{error}") from None


def settle(options: Any) -> Any:
    """Returns the options with the defaults of the device and of the threads filled in.

    Call it before a framework starts: it limits this process to so many processors.
    """
    share_device(options.device)
    device, threads = choose_device(options.device), limit_threads(options.threads)
    return dataclasses.replace(options, device=device, threads=threads)


def compared(options: Any, device: str | None = None, **more: Any) -> Mapping[str, Any]:
    """Returns the settings that two reports must share for their ratios to be compared.

    Args:
        options: the options that `settle` returned.
        device: the device's name; by default it is looked up.
        more: further settings.
    """
    found = {}
    left_out = {field.name for field in dataclasses.fields(Compared)}
    for name, value in vars(options).items():
        if name.endswith("size"):
            found[name.replace("_", " ")] = "{} x {}".format(*value)
        elif name == "tf32":
            found["float32 products"] = "TensorFloat-32" if value else "full precision"
        elif name == "compile":
            found["torch.compile"] = value
        elif name == "official_python":  # whose path is of this machine alone
            found["official tools"] = value is not None
        elif name not in {*left_out, "rows"}:  # which rows are measured changes none of them
            found[name] = ", ".join(value) if isinstance(value, tuple) else value
    return {**found, "device": device or device_kind(options.device), **more}
