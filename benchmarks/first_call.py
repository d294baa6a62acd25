"""Where the time of a first call goes, and what a whole `m2f predict` of one image takes.

    python benchmarks/first_call.py --preset swin-tiny-coco-instance --size 384 384

Every figure is of a fresh process, with an empty cache of compiled programs and with a filled one.
Weights are random, but for the model in the package that `m2f predict` uses.
README.md beside this file says what each row means.
"""

import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from measuring.machine import describe_run
from measuring.options import Count, OnMachine, Reported, compared, parse, refusing, settle
from measuring.processes import in_a_process, m2f
from measuring.programs import forward_of
from measuring.tables import Table, publish, say
from measuring.timing import timed

from m2f_jax import ImageProcessor, Segmenter, load
from m2f_jax.modeling.kinds import class_of
from m2f_jax.presets import preset

EXAMPLE = Path(__file__).parents[1] / "examples" / "street.jpg"
COMMAND = "m2f predict examples/street.jpg"
SEGMENTER = "all of a Segmenter's first image, from resizing to instances"
EMPTY, FILLED = "empty cache, s", "filled cache, s"


@dataclass(frozen=True, kw_only=True)
class Options(OnMachine, Reported):
    """Show where the time of a first call goes."""

    preset: str = "swin-tiny-coco-instance"
    """A published model."""
    repeats: Count = 3
    """How often everything is measured with a filled cache; medians are shown."""


def save_model(options: Options, folder: Path):
    """Writes a model with random weights."""
    config = preset(options.preset).config
    class_of(config)(config, rngs=nnx.Rngs(0)).save_pretrained(folder)


def first_call(folder: Path, options: Options) -> Mapping[str, float]:
    """Returns the seconds of each part of the network's first call, in this process."""
    model, loading = timed(lambda: load(folder, options.dtype).model)
    graph, state = nnx.split(model)
    arguments = nnx.as_pure(state), np.zeros((1, *options.size, 3), np.float32)
    traced, tracing = timed(forward_of(graph).trace, *arguments)
    lowered, lowering = timed(traced.lower)
    compiled, compiling = timed(lowered.compile)
    _, running = timed(lambda: jax.block_until_ready(compiled(*arguments)))
    return {
        "opening the model": loading,
        "tracing the network": tracing,
        "lowering it to StableHLO": lowering,
        "compiling it, or reading it from the cache": compiling,
        "running it": running,
    }


def first_image(folder: Path, options: Options) -> Mapping[str, float]:
    """Returns the seconds of a Segmenter's first image, as the commands make it, in this process.

    Resizing and post-processing are in it, too. On a CPU its programs are kept beside the compiled
    ones, and aren't traced once they are there.
    """
    programs = Path(os.environ["JAX_COMPILATION_CACHE_DIR"], "programs")
    opened = load(folder, options.dtype)
    segmenter = Segmenter(opened.model, ImageProcessor(), programs=programs)
    image = np.zeros((*options.size, 3), np.uint8)
    _, seconds = timed(lambda: segmenter(image, "instance"))
    return {SEGMENTER: seconds}


def predict(folder: Path) -> float:
    """Returns the seconds of `m2f predict` for the example with the model in the package."""
    out = folder / "predictions"
    command = "predict", EXAMPLE, "--out", out, "--overwrite"
    _, seconds = timed(lambda: m2f(*command, JAX_COMPILATION_CACHE_DIR=str(folder / "kept")))
    return seconds


def measure(folder: Path, options: Options) -> list[dict[str, str | float]]:
    """Returns the rows of the table."""
    rounds = []
    for turn in range(1 + options.repeats):
        say("an empty cache" if turn == 0 else f"a filled cache, {turn} of {options.repeats}")
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
        parts = in_a_process(first_call, folder / "model", options, **cache)
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "segmenter")}
        image = in_a_process(first_image, folder / "model", options, **cache)
        rounds.append({**parts, **image, COMMAND: predict(folder)})
    empty, *filled = rounds
    return [
        {"part": name, EMPTY: empty[name], FILLED: statistics.median(x[name] for x in filled)}
        for name in empty
    ]


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints one table."""
    options = parse(Options, arguments)
    with refusing("--preset: "):
        preset(options.preset)
    options = settle(options)
    notes = describe_run({"median of, with a filled cache": options.repeats})
    settings = compared(options)
    with tempfile.TemporaryDirectory() as temporary:
        say(f"random weights for {options.preset}")
        in_a_process(save_model, options, Path(temporary, "model"), JAX_PLATFORMS="cpu")
        rows = measure(Path(temporary), options)
    notes = {**notes, "settings": settings}
    table = Table.of(f"{options.preset}, {settings['size']}", rows)
    publish(options, [table], notes, {"benchmark": "first_call", **notes, "rows": rows})


if __name__ == "__main__":
    main()
