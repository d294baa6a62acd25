"""Where the time of a first call goes, and what a whole `m2f predict` of one image takes.

    python benchmarks/first_call.py --preset swin-tiny-coco-instance --size 384 384

Every figure is of a fresh process, with an empty cache of compiled programs and with a filled one.
Processes of all sides take turns. Weights are random, but for the model in the package that
`m2f predict` uses. README.md beside this file says what each row means.
"""

import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from flax import nnx
from measuring.machine import check_installed, describe_run
from measuring.options import Count, OnMachine, Reported, compared, parse, refusing, settle
from measuring.processes import in_a_process, m2f
from measuring.programs import forward_of
from measuring.records import OURS, Row, table_of
from measuring.tables import Table, publish, say
from measuring.timing import timed
from peers import side
from peers.networks.settings import Settings
from peers.weights import HUGGING_FACE, save_random_weights

from m2f_jax import ImageProcessor, Segmenter, load
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
    peers: tuple[Literal["transformers", "zeromodels"], ...] = ()
    """The peers whose network's first call is measured, too."""


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


def first_call_of(peer: str, folder: Path, options: Options) -> float:
    """Returns the seconds of the first call of a peer's network, in this process."""
    settings = Settings(
        options.size, dtype=options.dtype, device=options.device or "cpu", threads=options.threads
    )
    network = side(peer, "Network")(folder, settings)
    pixel_values = np.zeros((1, *options.size, 3), np.float32)
    _, seconds = timed(network.network(pixel_values))
    return seconds


def measure(folder: Path, options: Options) -> tuple[list[dict[str, str | float]], list[Row]]:
    """Returns the rows of our parts, and those beside the peers."""
    rounds, peers = [], {peer: [] for peer in options.peers}
    for turn in range(1 + options.repeats):
        say("an empty cache" if turn == 0 else f"a filled cache, {turn} of {options.repeats}")
        parts = in_a_process(first_call, folder / "model", options, **cache(folder, "parts"))
        image = in_a_process(first_image, folder / "model", options, **cache(folder, "segmenter"))
        rounds.append({**parts, **image, COMMAND: predict(folder)})
        for peer, seconds in peers.items():
            arguments = peer, folder / "model" / HUGGING_FACE, options
            seconds.append(in_a_process(first_call_of, *arguments, **cache(folder, peer)))
    seconds = {name: [x[name] for x in rounds] for name in rounds[0]}
    parts = [
        {"part": name, EMPTY: x[0], FILLED: statistics.median(x[1:])} for name, x in seconds.items()
    ]
    beside = {OURS: seconds[SEGMENTER], **peers}
    return parts, [
        Row.of("an empty cache", "s", {name: x[0] for name, x in beside.items()}),
        Row.of(
            "a filled cache", "s", {name: statistics.median(x[1:]) for name, x in beside.items()}
        ),
    ]


def cache(folder: Path, name: str) -> dict[str, str]:
    """Returns the environment of a cache that keeps all programs, as the commands' does."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder / f"compiled by {name}"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints the tables."""
    options = parse(Options, arguments)
    check_installed(options.peers)
    with refusing("--preset: "):
        config = preset(options.preset).config
    options = settle(options)
    measured = {"median of, with a filled cache": options.repeats}
    notes = describe_run(measured, peers=options.peers)
    settings = compared(options)
    with tempfile.TemporaryDirectory() as temporary:
        say(f"random weights for {options.preset}")
        model = Path(temporary, "model")
        in_a_process(save_random_weights, config, model, JAX_PLATFORMS="cpu")
        parts, beside = measure(Path(temporary), options)
    notes = {**notes, "settings": settings}
    title = f"{options.preset}, {settings['size']}"
    tables = [Table.of(title, parts)]
    content = {"benchmark": "first_call", **notes, "rows": parts}
    if options.peers:
        tables.append(table_of(f"{SEGMENTER}, beside the first call of a network", beside))
        content["beside peers"] = [row._asdict() for row in beside]
    publish(options, tables, notes, content)


if __name__ == "__main__":
    main()
