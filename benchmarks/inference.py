"""Times this Mask2Former beside its peers: same weights, same input, same machine, one run.

    python benchmarks/inference.py --preset swin-tiny-coco-instance --size 384 384

The weights are random, made by transformers, saved, and loaded by both. Both must give the same
logits; then calls of all peers take turns, so that a machine that slows down slows down for all.
README.md beside this file says what each row means.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from arguments import add_machine, add_size, add_tf32, count, products
from inputs import save_random_weights
from machine import (
    check_installed,
    choose_device,
    describe_run,
    device_kind,
    in_a_process,
    limit_threads,
    peak_host_bytes,
    share_device,
)
from peers import PEERS, Settings
from reporting import OURS, Report, Row, add_record_options, publish_report, read_record, say
from turns import take_turns

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.presets import preset

if TYPE_CHECKING:
    from m2f_jax import Predictions

MOST_FLIPPED = 1e-3  # of all mask pixels, if two networks are the same function in float32


def measure_together(folder: Path, settings: Settings) -> tuple[dict[str, float], list[Row]]:
    """How far the logits are apart, and the rows of calls that take turns."""
    say("loading all into one process")
    peers = {name: PEERS[name](folder, settings) for name in (OURS, *settings.peers)}
    inputs = peers[OURS].inputs()
    agreement = {}
    if "transformers" in peers:
        theirs = peers["transformers"].predictions(inputs.pixel_values)
        agreement = compare(inputs.predictions, theirs, settings)
    calls = {name: peer.calls(inputs) for name, peer in peers.items()}
    rows = []
    for name in calls[OURS]:
        say(name)
        turns = {peer: named[name] for peer, named in calls.items() if name in named}
        rows.append(Row.timed(name, take_turns(turns, settings.repeats)))
    return agreement, rows


def compare(
    ours: "Predictions", theirs: tuple[np.ndarray, np.ndarray], settings: Settings
) -> dict[str, float]:
    """How far the logits are apart.

    Raises:
        SystemExit: these aren't the same function.
    """
    differences = [float(abs(np.asarray(a) - b).max()) for a, b in zip(ours, theirs, strict=True)]
    masks = np.asarray(ours.mask_logits)
    flipped = int(((masks >= 0) != (theirs[1] >= 0)).sum())
    if settings.dtype == "float32" and not settings.tf32 and flipped > MOST_FLIPPED * masks.size:
        raise SystemExit(f"the networks differ in {flipped} of {masks.size} mask pixels")
    return {
        "largest difference of class logits": differences[0],
        "largest difference of mask logits": differences[1],
        "mask pixels that flip": flipped,
        "mask pixels": masks.size,
    }


def measure_alone(folder: Path, arguments: Sequence[str], peers: Sequence[str]) -> Iterator[Row]:
    """Load time, first call and peak memory of every peer, each in fresh processes.

    The second one of a peer finds in JAX's persistent cache what the first one compiled.
    """
    found = {}
    for name in (OURS, *peers):
        command = [*arguments, "--alone", name, "--folder", str(folder)]
        cache = str(folder / f"compiled by {name}")
        say(f"{name} in a process of its own")
        figures = in_a_process(__file__, *command, JAX_COMPILATION_CACHE_DIR=cache)
        say(f"{name} in another one, with what was compiled")
        again = in_a_process(__file__, *command, JAX_COMPILATION_CACHE_DIR=cache)
        figures["first call from the persistent cache, s"] = again["first call, s"]
        found[name] = figures
    for key in found[OURS]:
        name, unit = key.split(", ")
        yield Row.of(name, unit, {side: figures[key] for side, figures in found.items()})


def measure_this_process(folder: Path, name: str, settings: Settings) -> dict[str, float]:
    """What `measure_alone` wants of one peer."""
    start = time.perf_counter()
    peer = PEERS[name](folder, settings)
    loaded = time.perf_counter()
    rng = np.random.default_rng(0)
    call = peer.network(rng.normal(size=(settings.batch, *settings.size, 3)).astype(np.float32))
    ready = time.perf_counter()
    call()
    first = time.perf_counter()
    call()
    peak = peer.peak_device_bytes() if settings.device == "cuda" else peak_host_bytes()
    return {
        "peak memory, MiB": peak / 2**20,
        "import and load, s": loaded - start,
        "first call, s": first - ready,
    }


def describe(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """What of the settings must be the same for two reports to be compared."""
    height, width = settings.size
    return {
        "preset": options.preset,
        "size": f"{height} x {width}",
        "batch": settings.batch,
        "dtype": settings.dtype,
        "float32 products": products(settings.tf32),
        "device": device_kind(settings.device),
        "threads": settings.threads,
        "peers": ", ".join(settings.peers),
        "torch.compile": settings.compiled,
    }


# From the command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="swin-tiny-coco-instance", help="a published model")
    add_size(parser, (384, 384))
    parser.add_argument("--batch", type=count, default=1, help="images at a time")
    add_machine(parser)
    add_tf32(parser)
    parser.add_argument("--compile", action="store_true", help="add torch.compile to theirs")
    parser.add_argument("--repeats", type=count, default=5, help="medians of so many")
    peers = [name for name in PEERS if name != OURS]
    parser.add_argument(
        "--peers", nargs="+", choices=peers, default=peers[:1], help=f"default: {peers[0]}"
    )
    add_record_options(parser)
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # the peer of this process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the weights
    return parser.parse_args(arguments)


def settle(options: argparse.Namespace, config: Mask2FormerConfig) -> Settings:
    """The settings, made known to both frameworks before they start."""
    share_device(options.device)
    threads = limit_threads(options.threads)
    return Settings(
        config=config,
        size=tuple(options.size),
        batch=options.batch,
        dtype=options.dtype,
        device=options.device if options.alone else choose_device(options.device),
        tf32=options.tf32,
        compiled=options.compile,
        repeats=options.repeats,
        threads=threads,
        peers=tuple(options.peers),
    )


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints one table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    if options.alone:
        settings = settle(options, Mask2FormerConfig.load(options.folder / "architecture.json"))
        print(json.dumps(measure_this_process(options.folder, options.alone, settings)))
        return
    # transformers makes the weights, so it is always needed.
    check_installed(("transformers", *options.peers))
    try:
        config = preset(options.preset).config
    except ValueError as error:
        raise SystemExit(f"--preset: {error}") from error
    settings = settle(options, config)
    described = describe(options, settings)
    record = read_record(options, "inference", described)
    noted = describe_run({"median of": settings.repeats}, peers=settings.peers)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say(f"random weights for {options.preset}")
        save_random_weights(config, folder)
        (folder / "architecture.json").write_text(json.dumps(config.to_dict()))
        device = ["--device", settings.device]
        alone = list(measure_alone(folder, [*arguments, *device], settings.peers))
        agreement, rows = measure_together(folder, settings)
    report = Report(
        benchmark="inference",
        title=f"{options.preset}, {settings.batch} x {described['size']}",
        settings=described,
        notes={**noted, "agreement": agreement},
        rows=rows + alone,
    )
    publish_report(options, report, record)


if __name__ == "__main__":
    main()
