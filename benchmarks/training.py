"""Trains this Mask2Former beside transformers': same weights, same batches, same machine.

    python benchmarks/training.py --preset swin-tiny-coco-instance --size 384 384 --batch 2

A model of ours with fresh weights is saved, converted to Hugging Face's format, and both sides
train it with AdamW as the authors set it up, without drop path. Losses are computed at random
points, so transformers runs twice: with points of its own, which is timed, and with ours, which
must give our losses. README.md beside this file says what each row means.

Every run is a process of its own, so its memory is its own and a device has one at a time.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arguments import add_machine, add_size, add_tf32, count, products
from machine import (
    check_installed,
    choose_device,
    describe_run,
    device_kind,
    in_a_process,
    limit_threads,
    peak_host_bytes,
)
from reporting import (
    OURS,
    Grid,
    Report,
    Row,
    add_record_options,
    publish_report,
    read_record,
    say,
)
from trainers import OUR_POINTS, SEED, SIDES, THEIRS, Settings, draw_batch

from m2f_jax.config import Mask2FormerConfig

TOLERANCE = 1e-3  # of the first loss, relative, in float32 with the same points
WARM_UP = 2  # steps that aren't timed


class Run(NamedTuple):
    """What came of training in a process of its own."""

    losses: list[float]  # of each step
    seconds: list[float]  # of each step
    peak_mib: float


# In a process of its own


def save_weights(folder: Path):
    """The architecture in the folder with fresh weights: as ours there, as theirs below it."""
    from m2f_jax.convert import convert

    from m2f_jax.training import initialize

    initialize(Mask2FormerConfig.load(folder / "config.json"), SEED).save_pretrained(folder)
    convert(folder, folder / "huggingface", to="huggingface")


def train(folder: Path, settings: Settings, name: str) -> Run:
    """All steps of one side."""
    num_classes = Mask2FormerConfig.load(folder / "config.json").num_classes
    side = SIDES[name](folder, settings)
    losses, seconds = [], []
    for step in range(settings.steps):
        batch = side.place(draw_batch(settings, num_classes, step))
        start = time.perf_counter()
        losses.append(side.train_on(batch))
        seconds.append(time.perf_counter() - start)
        say(f"step {step + 1} of {settings.steps}: loss {losses[-1]:.3f}, {seconds[-1]:.2f} s")
    peak = side.peak_device_bytes() if settings.device == "cuda" else peak_host_bytes()
    return Run(losses, seconds, peak / 2**20)


def in_this_process(folder: Path, task: str) -> Any:
    """One of the tasks that `start` starts."""
    settings = Settings(**json.loads((folder / "settings.json").read_text()))
    if task == "device":
        device = choose_device(settings.device or None)
        return device, device_kind(device)
    if task == "weights":
        return save_weights(folder)
    return train(folder, settings, task)._asdict()


def start(folder: Path, task: str, *, jax_on: str) -> Any:
    """What a task returns in a fresh process, in which JAX sees this device."""
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # else all memory counts as used
    if jax_on == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"
    return in_a_process(__file__, "--alone", task, "--folder", str(folder), **environment)


# What is compared and printed


def relative_difference(ours: float, theirs: float) -> float:
    """How far our loss is from theirs."""
    return abs(ours - theirs) / abs(theirs)


def compare_losses(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """Relative differences of the losses, with the same points and with different ones."""
    ours = runs[OURS][0].losses
    differences = {
        name: [relative_difference(*pair) for pair in zip(ours, runs[name][0].losses, strict=True)]
        for name in (OUR_POINTS, THEIRS)
    }
    return {
        "same points, step 1": differences[OUR_POINTS][0],
        "same points, largest": max(differences[OUR_POINTS]),
        "own points, step 1": differences[THEIRS][0],
        "own points, largest": max(differences[THEIRS]),
    }


def compare_costs(runs: Mapping[str, Sequence[Run]]) -> list[Row]:
    """Time and memory of both sides, of all repeats."""

    def median_step(runs: Sequence[Run]) -> float:
        return statistics.median(itertools.chain(*(run.seconds[WARM_UP:] for run in runs)))

    def median_first_step(runs: Sequence[Run]) -> float:
        return statistics.median(run.seconds[0] for run in runs)

    def median_peak(runs: Sequence[Run]) -> float:
        return statistics.median(run.peak_mib for run in runs)

    figures = {
        ("step", "s"): median_step,
        ("first step", "s"): median_first_step,
        ("peak memory", "MiB"): median_peak,
    }
    return [
        Row.of(name, unit, {side: figure(runs[side]) for side in (OURS, THEIRS)})
        for (name, unit), figure in figures.items()
    ]


def list_losses(runs: Mapping[str, Sequence[Run]]) -> Grid:
    """The loss of every step of each side's first training."""
    losses = zip(*(runs[name][0].losses for name in SIDES), strict=True)
    lines = [[str(step), *(f"{x:.4f}" for x in line)] for step, line in enumerate(losses, start=1)]
    return Grid("losses", ["step", *SIDES], lines)


def describe(options: argparse.Namespace, settings: Settings, device: str) -> dict[str, Any]:
    """What of the settings must be the same for two reports to be compared."""
    height, width = settings.size
    return {
        "preset": options.preset,
        "size": f"{height} x {width}",
        "batch": settings.batch,
        "steps": settings.steps,
        "dtype": settings.dtype,
        "float32 products": products(settings.tf32),
        "device": device,
        "threads": settings.threads,
        "peers": THEIRS,
        "loss": settings.loss,
        "optimizer": settings.optimizer,
    }


# From the command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--preset", default="swin-tiny-coco-instance", help='a published model, or "streets"'
    )
    add_size(parser, (384, 384))
    parser.add_argument("--batch", type=count, default=2, help="images in a step")
    parser.add_argument("--steps", type=count, default=12, help="of each training")
    add_machine(parser)
    add_tf32(parser)
    parser.add_argument("--repeats", type=count, default=1, help="trainings of each side, in turns")
    add_record_options(parser)
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # the task of this process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of weights and settings
    options = parser.parse_args(arguments)
    if options.steps <= WARM_UP:
        parser.error(f"--steps: more than {WARM_UP}, which aren't timed")
    return options


def settle(options: argparse.Namespace) -> tuple[Mask2FormerConfig, Settings]:
    """The architecture, without drop path, and the settings; the device as it was asked for."""
    from m2f_jax.training import OptimizerConfig
    from m2f_jax.training.recipes import recipe

    try:
        train = recipe(options.preset).train
    except ValueError as error:
        raise SystemExit(f"--preset: {error}") from error
    backbone = dataclasses.replace(train.model.backbone, drop_path_rate=0.0)
    return dataclasses.replace(train.model, backbone=backbone), Settings(
        size=tuple(options.size),
        batch=options.batch,
        steps=options.steps,
        dtype=options.dtype,
        device=options.device or "",
        tf32=options.tf32,
        threads=limit_threads(options.threads),
        loss=dataclasses.asdict(train.loss),
        optimizer=dataclasses.asdict(OptimizerConfig()),
    )


def main(arguments: Sequence[str] | None = None):
    """Trains with both sides and prints how they compare."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.alone:
        # What libraries print goes to stderr: stdout is for the result.
        with contextlib.redirect_stdout(sys.stderr):
            result = in_this_process(options.folder, options.alone)
        print(json.dumps(result))
        return
    check_installed((THEIRS,))
    config, settings = settle(options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config.save(folder / "config.json")

        def keep(settings: Settings):
            (folder / "settings.json").write_text(json.dumps(settings._asdict()))

        keep(settings)
        device, kind = start(folder, "device", jax_on=settings.device)
        settings = settings._replace(device=device)
        keep(settings)
        described = describe(options, settings, kind)
        record = read_record(options, "training", described)
        noted = describe_run({"trainings of each side": options.repeats}, "optax", peers=(THEIRS,))
        say(f"fresh weights for {options.preset}")
        start(folder, "weights", jax_on="cpu")
        runs: dict[str, list[Run]] = {name: [] for name in SIDES}
        for repeat in range(options.repeats):
            for name in SIDES if repeat == 0 else (OURS, THEIRS):
                say(f"{name}, training {repeat + 1} of {options.repeats}")
                jax_on = settings.device if name == OURS else "cpu"
                runs[name].append(Run(**start(folder, name, jax_on=jax_on)))
    agreement = compare_losses(runs)
    report = Report(
        benchmark="training",
        title=f"training {options.preset}, {settings.batch} x {described['size']}",
        settings=described,
        notes={**noted, "agreement": agreement},
        rows=compare_costs(runs),
        others=[list_losses(runs)],
        details={"runs": {name: [run._asdict() for run in some] for name, some in runs.items()}},
    )
    publish_report(options, report, record)
    exact = settings.dtype == "float32" and not settings.tf32
    apart = agreement["same points, step 1"]
    if exact and not apart <= TOLERANCE:
        raise SystemExit(f"with the same points the first losses differ by {apart:.1e}")


if __name__ == "__main__":
    main()
