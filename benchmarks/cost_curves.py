"""Shows how time and memory grow with pixels, images in a batch, queries, and devices.

    python benchmarks/cost_curves.py --preset swin-large-cityscapes-instance --plot curves.png
    python benchmarks/cost_curves.py --preset swin-tiny-cityscapes-instance --max-pixels 2.1

Weights and images are random. Along each axis everything else stays as it is. README.md beside this
file says how to read the tables.
"""

import dataclasses
import importlib.util
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from ahead_of_time.collectives import training_step_on_all_devices
from flax import nnx
from measuring.machine import describe_run
from measuring.options import File, Reported, parse, refusing
from measuring.processes import in_a_process
from measuring.programs import Program, forward_of
from measuring.tables import Table, publish, say, text_of
from measuring.timing import timed

from m2f_jax.bounds import POSITIVE
from m2f_jax.config import ModelConfig, VideoMask2FormerConfig
from m2f_jax.default_dtype import default_dtype
from m2f_jax.modeling.parameters import abstract_model, fill, parameters, stored_dtype
from m2f_jax.presets import preset

SIZES = (
    (384, 384),
    (512, 512),
    (512, 1024),
    (1024, 1024),
    (1024, 2048),
    (2048, 2048),
    (2048, 4096),
)
BATCHES = (1, 2, 4, 8, 16)
QUERIES = (50, 100, 200, 400)
DEVICES = (1, 2, 4, 8)
Axis = Literal["pixels", "batch", "queries", "devices"]
DRAWN = {"pixels": "megapixels", "batch": "batch", "queries": "queries"}  # axis and column
BATCH_SIZE_FOR_QUERIES = (512, 1024)


@dataclass(frozen=True, kw_only=True)
class Options(Reported):
    """Show how time and memory grow: with pixels, images in a batch, queries, and devices."""

    preset: str = "swin-tiny-cityscapes-instance"
    """A published model."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """The dtype of the computation; by default the one that m2f predict takes."""
    axes: tuple[Axis, ...] = get_args(Axis)
    """The axes to vary."""
    max_pixels: Annotated[float, POSITIVE] = 8.4
    """The most pixels of a batch, in millions."""
    seconds: Annotated[float, POSITIVE] = 3.0
    """Seconds of calls for each row."""
    plot: File = None
    """Draw the curves into this file (needs matplotlib)."""


def random_model(config: ModelConfig, dtype: str) -> tuple[nnx.GraphDef, Any]:
    """Returns a model without its parameters, and random ones."""
    rng, abstract = np.random.default_rng(0), abstract_model(config, dtype)
    arrays = {
        name: jnp.asarray(
            name.endswith("scale") + 0.02 * rng.standard_normal(x.shape, np.float32),
            stored_dtype(x, jnp.dtype(dtype)),
        )
        for name, x in parameters(abstract).items()
    }
    graph, state = nnx.split(fill(abstract, arrays))
    return graph, nnx.as_pure(state)


def time_of(call: Callable[[], Any], seconds: float) -> float:
    """Returns the median of calls that take so long together, at least 3, in milliseconds."""
    call()
    times = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 50):
        times.append(timed(call)[1])
    return 1000 * statistics.median(times)


def measure(
    config: ModelConfig, size: tuple[int, int], batch: int, options: Options
) -> dict[str, Any]:
    """Returns the forward pass of a batch: its time, and the memory that the compiler planned.

    For a model of videos, the images are the frames of one clip.
    """
    graph, weights = random_model(config, str(options.dtype))
    images = jax.random.normal(jax.random.key(0), (batch, *size, 3))
    if isinstance(config, VideoMask2FormerConfig):
        images = images[None]
    program = Program.compile(forward_of(graph), weights, images)
    return {
        "size": "{} x {}".format(*size),
        "batch": batch,
        "queries": config.decoder.num_queries,
        "megapixels": batch * math.prod(size) / 1e6,
        "ms": time_of(program.call(weights, images), options.seconds),
        "temporaries MiB": program.temporaries,
        "weights MiB": program.arguments,
        "compilation s": program.trace_seconds + program.compile_seconds,
    }


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Returns the k of a power law y ~ x^k through the larger half of the points; 1 is linear."""
    half = slice(len(x) // 2 - 1, None) if len(x) > 3 else slice(None)
    return float(np.polyfit(np.log(x[half]), np.log(y[half]), 1)[0])


def cases(
    axis: Axis, config: ModelConfig, most_pixels: float
) -> list[tuple[ModelConfig, tuple[int, int], int]]:
    """Returns the points of an axis: architecture, image size and batch."""
    if axis == "pixels":
        return [(config, size, 1) for size in SIZES if math.prod(size) <= most_pixels]
    if axis == "batch":
        most = most_pixels / math.prod(SIZES[0])
        return [(config, SIZES[0], count) for count in BATCHES if count <= most]
    decoders = [dataclasses.replace(config.decoder, num_queries=count) for count in QUERIES]
    size = BATCH_SIZE_FOR_QUERIES
    return [(dataclasses.replace(config, decoder=decoder), size, 1) for decoder in decoders]


def along(axis: Axis, config: ModelConfig, options: Options) -> list[dict[str, Any]]:
    """Returns the rows of an axis."""
    if axis == "devices":
        return along_devices()
    points = cases(axis, config, 1e6 * options.max_pixels)
    return [show(measure(*point, options)) for point in points]


def along_devices() -> list[dict[str, Any]]:
    """Returns what devices send one another in a training step, for numbers of forced CPU devices.

    Each has an image. The model is the one in the package: only the pattern counts, and that is
    every model's.
    """
    rows = []
    for count in DEVICES:
        flags = f"--xla_force_host_platform_device_count={count}"
        found = in_a_process(training_step_on_all_devices, JAX_PLATFORMS="cpu", XLA_FLAGS=flags)
        rows.append(show(found))
    return rows


def show(row: dict[str, Any]) -> dict[str, Any]:
    """Prints a row as progress, and returns it."""
    say(", ".join(f"{name} {text_of(value)}" for name, value in row.items()))
    return row


def growth(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns the powers of pixels by which time and memory grow at the upper end."""
    pixels = [row["megapixels"] for row in rows]
    return {
        f"{name} with pixels to the power of": exponent(pixels, [row[name] for row in rows])
        for name in ("ms", "temporaries MiB")
    }


def plot(tables: dict[str, list[dict[str, Any]]], path: Path):
    """Draws time and memory along pixels, batch and queries, on logarithmic axes."""
    import matplotlib.pyplot as plt  # pyright: ignore[reportMissingImports]
    from matplotlib.ticker import LogLocator, NullLocator  # pyright: ignore[reportMissingImports]

    drawn = [axis for axis in DRAWN if axis in tables]
    figure, panels = plt.subplots(
        2, len(drawn), figsize=(4 * len(drawn), 6), squeeze=False, layout="constrained"
    )
    for column, axis in enumerate(drawn):
        x = [row[DRAWN[axis]] for row in tables[axis]]
        for panel, name in zip(panels[:, column], ("ms", "temporaries MiB"), strict=True):
            y = [row[name] for row in tables[axis]]
            panel.loglog(x, y, marker="o")
            panel.loglog(x, [y[-1] * value / x[-1] for value in x], ":", label="linear")
            panel.set(xlabel=DRAWN[axis], ylabel=name)
            panel.set_xticks(x, [f"{value:.2g}" if value < 10 else f"{value:g}" for value in x])
            panel.set_xticks([], minor=True)
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:,.0f}")
            panel.yaxis.set_minor_locator(NullLocator())
            panel.legend(loc="lower right")
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None):
    """Measures every axis and prints its table."""
    options = parse(Options, arguments)
    if 1e6 * options.max_pixels < math.prod(SIZES[0]):
        least = math.prod(SIZES[0]) / 1e6
        raise SystemExit(f"--max-pixels: the smallest image has {least:.3g} million")
    if options.plot and DRAWN.keys().isdisjoint(options.axes):
        raise SystemExit(f"--plot draws curves along {', '.join(DRAWN)}; not along devices")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib")
    with refusing("--preset: "):
        config = preset(options.preset).config
    if options.dtype is None:
        options = dataclasses.replace(options, dtype=default_dtype())
    device = jax.devices()[0].device_kind
    notes = {
        "settings": {"preset": options.preset, "dtype": options.dtype, "device": device},
        **describe_run({"seconds of calls": options.seconds}),
    }
    tables = {axis: along(axis, config, options) for axis in options.axes}
    if options.plot:
        plot(tables, options.plot)
    grown = {
        f"along {axis}, at the upper end": growth(tables[axis])
        for axis in ("pixels", "batch")
        if len(tables.get(axis, ())) > 1
    }
    shown = [Table.of(f"along {axis}", rows) for axis, rows in tables.items()]
    content = {"benchmark": "cost_curves", **notes, "tables": tables}
    publish(options, shown, {**grown, **notes}, content)


if __name__ == "__main__":
    main()
