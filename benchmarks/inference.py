"""Times a model of ours beside its peers: same weights, same input, same machine, one run.

    python benchmarks/inference.py --preset swin-tiny-coco-instance --size 384 384

The weights are random, saved in the format of transformers, and loaded by both. Both must give the
same logits; then calls of all peers take turns, so that a machine that slows down slows down for
all. README.md beside this file says what each row means.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from measuring.agreement import compare
from measuring.machine import check_installed, describe_run, peak_host_bytes
from measuring.options import Compared, Count, OnMachine, compared, parse, refusing, settle
from measuring.predictions import PANOPTIC, POST_PROCESSING, SEMANTIC
from measuring.processes import in_a_process
from measuring.records import OURS, Comparison, Row
from measuring.tables import say
from measuring.timing import Call, take_turns, timed
from peers import OPENVINO, THEIRS, side
from peers.weights import HUGGING_FACE, save_random_weights

from m2f_jax.presets import preset

LEAST_EQUAL = 0.95  # of the pixels of two maps; theirs are thresholded at 384 x 384


@dataclass(frozen=True, kw_only=True)
class Options(OnMachine, Compared):
    """Time a model of ours beside its peers: same weights, same input, same machine, one run."""

    preset: str = "swin-tiny-coco-instance"
    """A published model."""
    batch: Count = 1
    """Images at a time."""
    tf32: bool = False
    """TensorFloat-32 for float32 products on a GPU."""
    compile: bool = False
    """Add torch.compile to theirs."""
    peers: tuple[Literal["transformers", "zeromodels", "openvino"], ...] = ("transformers",)
    """The peers to compare with."""
    rows: Literal["all", "forward", "post-processing"] = "all"
    """"forward" measures the whole network alone, "post-processing" what follows it."""


def measure_together(folder: Path, options: Options) -> tuple[dict[str, float], list[Row]]:
    """Returns how far peers' logits are apart from ours, and the rows of calls that take turns."""
    say("loading all into one process")
    peers = {name: side(name, "Network")(folder, options) for name in (OURS, *options.peers)}
    inputs, agreement, rows = peers[OURS].inputs(), {}, []
    exact = options.dtype == "float32" and not options.tf32
    for name in (THEIRS, OPENVINO):  # the others have weights of their own
        if name in peers:
            theirs = peers[name].predictions(inputs.pixel_values)
            differences = compare(inputs.predictions, theirs, exact=exact)
            agreement |= {f"{name}, {key}": value for key, value in differences.items()}
    calls = {name: peer.calls(inputs) for name, peer in peers.items()}
    if options.rows != "forward" and THEIRS in calls:
        agreement |= compare_maps(calls[OURS], calls[THEIRS])
    names = {
        "all": tuple(calls[OURS]),
        "forward": ("whole forward",),
        "post-processing": POST_PROCESSING,
    }
    for name in names[options.rows]:
        say(name)
        turns = {peer: named[name] for peer, named in calls.items() if name in named}
        rows.append(Row.timed(name, take_turns(turns, options.repeats)))
    return agreement, rows


def compare_maps(ours: Mapping[str, Call], theirs: Mapping[str, Call]) -> dict[str, float]:
    """Returns how many pixels of the maps made of drawn predictions are of equal classes.

    Raises:
        SystemExit: too few are.
    """
    found = {}
    for name in (SEMANTIC, PANOPTIC):
        maps: list[tuple[Any, Any]] = list(zip(ours[name](), theirs[name](), strict=True))
        if name == PANOPTIC:
            # Theirs also has the pixels that are in no mask, in the segment that is the nearest.
            maps = [(classes_of(*a), classes_of(*b)) for a, b in maps]
            maps = [(a[a >= 0], b[a >= 0]) for a, b in maps]
        same = np.concatenate([(a == b).ravel() for a, b in maps])
        equal = float(same.sum() / max(same.size, 1))
        if equal < LEAST_EQUAL:
            raise SystemExit(f"{name}: only {100 * equal:.1f} % of the pixels are equal")
        found[f"{THEIRS}, {name}, equal pixels, %"] = 100 * equal
    return found


def classes_of(segment_map: np.ndarray, labels: Mapping[int, int]) -> np.ndarray:
    """Returns the class of every pixel, -1 where there is no segment."""
    of_segment = np.full(segment_map.max() + 2, -1)  # the last one is that of -1, as of 0
    for number, label in labels.items():
        of_segment[number] = label
    return of_segment[segment_map]


def measure_alone(folder: Path, options: Options) -> Iterator[Row]:
    """Yields load time, first call and peak memory of every side, each in fresh processes.

    The second one of a side finds in JAX's persistent cache what the first one compiled.
    """
    found = {}
    for name in (OURS, *options.peers):
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / f"compiled by {name}")}
        say(f"{name} in a process of its own")
        figures = in_a_process(measure_this_process, folder, name, options, **cache)
        say(f"{name} in another one, with what was compiled")
        again = in_a_process(measure_this_process, folder, name, options, **cache)
        figures["first call from the persistent cache, s"] = again["first call, s"]
        found[name] = figures
    for key in found[OURS]:
        name, unit = key.split(", ")
        yield Row.of(name, unit, {side: figures[key] for side, figures in found.items()})


def measure_this_process(folder: Path, name: str, options: Options) -> dict[str, float]:
    """Returns the figures of `measure_alone` for one side."""
    images = np.random.default_rng(0).normal(size=(options.batch, *options.size, 3))
    peer, loading = timed(lambda: side(name, "Network")(folder, options))
    call = peer.network(images.astype(np.float32))
    _, first = timed(call)
    call()
    peak = peer.peak_device_bytes() if options.device == "cuda" else peak_host_bytes()
    return {"peak memory, MiB": peak / 2**20, "import and load, s": loading, "first call, s": first}


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints one table."""
    options = parse(Options, arguments)
    check_installed((THEIRS, *options.peers))
    with refusing("--preset: "):
        config = preset(options.preset).config
    options = settle(options)
    settings = compared(options)
    notes = describe_run({"median of": options.repeats}, peers=options.peers)
    comparison = Comparison("inference", options, settings, notes)
    with tempfile.TemporaryDirectory() as temporary:
        say(f"random weights for {options.preset}")
        in_a_process(save_random_weights, config, Path(temporary), JAX_PLATFORMS="cpu")
        folder = Path(temporary, HUGGING_FACE)
        alone = list(measure_alone(folder, options)) if options.rows == "all" else []
        agreement, rows = measure_together(folder, options)
    title = f"{options.preset}, {options.batch} x {settings['size']}"
    comparison.publish(title, rows + alone, notes={"agreement": agreement})


if __name__ == "__main__":
    main()
