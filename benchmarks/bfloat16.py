"""Compares what a model finds in bfloat16 with what it finds in float32, on a CPU.

    python benchmarks/bfloat16.py --images 8

There is no peer, and nothing is timed. README.md beside this file says what each row means.
"""

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring.machine import describe_run, share_device
from measuring.options import Count, Reported, parse
from measuring.processes import m2f
from measuring.tables import Table, publish, say

from m2f_jax import InstanceSegmentation, PanopticSegmentation, Segmenter
from m2f_jax.files import read_json

DTYPES = ("float32", "bfloat16")
SURE = 0.5  # least score of float32's instances that are looked for in bfloat16


@dataclass(frozen=True, kw_only=True)
class Options(Reported):
    """Compare what a model finds in bfloat16 with what it finds in float32."""

    model: str = "streets"
    """A model of streets; a source as m2f predict takes it."""
    images: Count = 8
    """The number of streets, each of 256 x 512."""
    seed: int = 5
    """The seed of the streets."""


def panoptic_classes(found: PanopticSegmentation) -> np.ndarray:
    """Returns the class of every pixel of a panoptic map, -1 where there is no segment."""
    of_id = np.full(max((s.id for s in found.segments), default=0) + 1, -1)
    for segment in found.segments:
        of_id[segment.id] = segment.label
    return of_id[found.segment_map]


def best_overlaps(found: InstanceSegmentation, others: InstanceSegmentation) -> list[float]:
    """Returns for each instance its IoU with the nearest other one of its class, or 0."""
    overlaps = []
    for mask, label in zip(found.masks, found.labels, strict=True):
        candidates = others.masks[others.labels == label]
        common = (candidates & mask).sum((1, 2))
        together = np.maximum((candidates | mask).sum((1, 2)), 1)  # masks may be empty
        overlaps.append(float(np.max(common / together, initial=0)))
    return overlaps


def compare(model: str, paths: Sequence[Path]) -> dict[str, float]:
    """Returns what maps and instances in both dtypes have in common, over all images."""
    both = [Segmenter.from_pretrained(model, dtype) for dtype in DTYPES]
    equal, overlaps = [], []
    for path in paths:
        first, second = (panoptic_classes(segment(path, "panoptic")) for segment in both)
        equal.append(float(np.mean(first == second)))
        found, others = (segment(path, "instance") for segment in both)
        sure = found.scores >= SURE
        overlaps += list(itertools.compress(best_overlaps(found, others), sure))
    return {
        "pixels with the same class in the panoptic map, %": 100 * float(np.mean(equal)),
        f"float32's instances of a score of {SURE} or more": len(overlaps),
        "IoU with the nearest of that class in bfloat16, mean": float(np.mean(overlaps)),
        "the same, least": float(np.min(overlaps)),
    }


def scores(folder: Path, data: Path, model: str, dtype: str) -> dict[str, float]:
    """Returns AP and PQ of `m2f eval` in a dtype."""
    found = {}
    for task, name in (("instance", "AP"), ("panoptic", "PQ")):
        out = folder / f"{task} {dtype}"
        settings = ("--model", model, "--task", task, "--dtype", dtype, "--out", out)
        m2f("eval", "cityscapes", data, *settings)
        found[name] = read_json(out / "results.json")["scores"][name]
    return found


def main(arguments: Sequence[str] | None = None):
    """Draws streets, segments them in both dtypes and prints what differs."""
    options = parse(Options, arguments)
    share_device("cpu")
    notes = describe_run({})
    with tempfile.TemporaryDirectory() as temporary:
        folder, data = Path(temporary), Path(temporary, "streets")
        drawn = ("--size", "256x512", "--seed", options.seed, "--split", "val")
        m2f("streets", data, "--images", options.images, *drawn)
        say("both dtypes beside each other")
        agreement = compare(options.model, sorted(data.glob("leftImg8bit/val/*/*.png")))
        rows = [{"dtype": dtype, **scores(folder, data, options.model, dtype)} for dtype in DTYPES]
    title = f"{options.model} on {options.images} streets of 256 x 512, on a CPU"
    content = {"benchmark": "bfloat16", "settings": title, **notes, "agreement": agreement}
    publish(
        options,
        [Table.of(title, rows)],
        {**notes, "agreement": agreement},
        {**content, "rows": rows},
    )


if __name__ == "__main__":
    main()
