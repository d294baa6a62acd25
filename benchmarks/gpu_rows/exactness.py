"""Whether the device computes the same function."""

import functools
import os
import re
import subprocess
import sys
from typing import Any

import jax
import numpy as np
from peers.operators.inputs import draw, level_sizes

from gpu_rows.suite.job import REPOSITORY, Job, Measuring, figure
from m2f_jax import Segmenter
from m2f_jax.ops.ms_deform_attn import ms_deform_attn
from m2f_jax.ops.window_attention import window_attention

SIZE = (256, 512)  # of the image whose levels are sampled
MOST = 1e-4  # the most that an operator may differ by, relative
TESTS = ("test_golden.py", "test_ms_deform_attn.py", "test_window_attention.py")


def relative(one: Any, other: Any) -> float:
    """Returns the norm of a difference, relative to the second norm."""
    one, other = (np.asarray(x, np.float64) for x in (one, other))
    return float(np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-30))


def compare(job: Job) -> Measuring:
    """Compares the operators and the Segmenter in float32 with this machine's CPU."""
    devices = {"device": job.jax_device(), "cpu": jax.devices("cpu")[0]}
    sizes = level_sizes(SIZE)

    def deform(values: Any, locations: Any, weights: Any, gradient: Any) -> Any:
        def operator(*x: Any) -> Any:
            return ms_deform_attn(x[0], sizes, *x[1:])

        result, derivative = jax.vjp(operator, values, locations, weights)
        return result, *derivative(gradient)

    rng = np.random.default_rng(0)
    shapes = (1, 50, 70, 3 * 64), (3 * 64,), (2, 144, 144)
    window = tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
    attend = functools.partial(window_attention, window_size=12, shifted=True)
    figures, found = [], {}
    with jax.default_matmul_precision("highest"):
        for name, function, arguments in (
            ("deformable attention and its gradients", deform, tuple(draw(sizes))),
            ("window attention", attend, window),
        ):
            there, here = (
                jax.tree.leaves(jax.jit(function)(*jax.device_put(arguments, x)))
                for x in devices.values()
            )
            worst = max(relative(a, b) for a, b in zip(there, here, strict=True))
            figures.append(figure(f"{name}, from a CPU's", worst, "relative"))
    for place, device in devices.items():
        segmenter = Segmenter.from_pretrained("streets", "float32", devices=[device])
        image = REPOSITORY / "examples" / "street.jpg"
        found[place] = [segmenter(image, task) for task in ("instance", "panoptic", "semantic")]
    yield
    assert max(x["value"] for x in figures) < MOST, figures
    (ours, panoptic, semantic), (theirs, panoptic_there, semantic_there) = found.values()
    count = min(len(ours.scores), len(theirs.scores))
    differing = {
        "scores of instances, largest difference": abs(
            ours.scores[:count] - theirs.scores[:count]
        ).max(),
        "labels of instances that agree": (ours.labels[:count] == theirs.labels[:count]).mean(),
        "pixels of instances that differ": (ours.masks[:count] != theirs.masks[:count]).mean(),
        "pixels of the panoptic map that differ": (
            panoptic.segment_map != panoptic_there.segment_map
        ).mean(),
        "pixels of the semantic map that differ": (semantic != semantic_there).mean(),
    }
    found_there = figure(
        "instances found, and on a CPU", len(ours.scores), "", cpu=len(theirs.scores)
    )
    return [
        *figures,
        found_there,
        *(figure(name, float(value), "") for name, value in differing.items()),
    ], {}


def run_golden_tests(job: Job) -> Measuring:
    """Runs the tests of the operators and of the authors' golden outputs on the device."""
    files = [str(path) for name in TESTS for path in (REPOSITORY / "tests").rglob(name)]
    assert len(files) == len(TESTS), files
    options = ["-q", "-o", "addopts=", "-W", "ignore", "-p", "no:cacheprovider"]
    options += ["-k", "test_preprocessing"] if job.device == "cpu" else ["-n", "6"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *files],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    yield  # nothing is timed, so the tests needn't have the device for themselves
    summary = done.stdout.strip().splitlines()[-1:]
    counts: dict[str, int] = dict.fromkeys(("passed", "failed", "error", "skipped"), 0)
    for number, kind in re.findall(r"(\d+) (\w+)", " ".join(summary)):
        counts[kind.removesuffix("s") if kind == "errors" else kind] = int(number)
    return [figure(f"tests {kind}", counts[kind], "") for kind in counts], {
        "output": done.stdout[-6000:]
    }
