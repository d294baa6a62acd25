"""Trains this Mask2Former beside transformers': same weights, same batches, same machine.

    python benchmarks/training.py --preset swin-tiny-coco-instance --size 384 384 --batch 2

A model of ours with fresh weights is saved, converted to Hugging Face's format, and both sides
train it with AdamW as the authors set it up, without drop path. Losses are computed at random
points, so transformers runs twice: with points of its own, which is timed, and with ours, which
must give our losses. README.md beside this file says what each row means.

Every run is a process of its own, so its memory is its own and a device has one at a time.
"""

import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring.machine import check_installed, describe_run, limit_threads
from measuring.options import Compared, Count, OnMachine, compared, parse, refusing
from measuring.processes import in_a_process
from measuring.records import OURS, Comparison, Row
from measuring.tables import Table, say
from peers import OUR_POINTS, THEIRS, side
from peers.trainers.batches import Settings, draw_batch
from peers.trainers.running import WARM_UP, Run, Steps, find_device, take_steps, train_alone
from peers.weights import save_random_weights

from m2f_jax.config import ModelConfig

SIDES = (OURS, THEIRS, OUR_POINTS)
TOLERANCE = 1e-5  # of the first loss, relative, in float32; other points change it by 4e-4


@dataclass(frozen=True, kw_only=True)
class Options(OnMachine, Compared):
    """Train this Mask2Former beside transformers': same weights, same batches, same machine."""

    preset: str = "swin-tiny-coco-instance"
    """A published model, or "streets"."""
    batch: Count = 2
    """Images in a step."""
    steps: Steps = 12
    """Of each training run; the first two aren't timed."""
    tf32: bool = False
    """TensorFloat-32 for float32 products on a GPU."""
    repeats: Count = 1
    """Training runs of each side, in turns."""


def train(name: str, settings: Settings, folder: Path) -> Run:
    """Takes all steps of one side."""
    num_classes = ModelConfig.load(folder / "config.json").num_classes
    trainer = side(name, "Trainer")(folder, settings)
    scenes = (draw_batch(settings, num_classes, step) for step in range(settings.steps))
    return take_steps(trainer, scenes, settings)


def relative_difference(ours: float, theirs: float) -> float:
    """Returns how far our loss is from theirs."""
    return abs(ours - theirs) / abs(theirs)


def compare_losses(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """Returns relative differences of the losses, with the same points and with different ones."""
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
    """Returns time and memory of both sides, of all repeats."""
    figures = {
        ("step", "s"): lambda run: run.seconds[WARM_UP:],
        ("first step", "s"): lambda run: run.seconds[:1],
        ("peak memory", "MiB"): lambda run: [run.peak_mib],
    }
    return [
        Row.of(
            name,
            unit,
            {
                side: statistics.median(x for run in runs[side] for x in figures_of(run))
                for side in (OURS, THEIRS)
            },
        )
        for (name, unit), figures_of in figures.items()
    ]


def list_losses(runs: Mapping[str, Sequence[Run]]) -> Table:
    """Returns the loss of every step of each side's first training run."""
    losses = zip(*(runs[name][0].losses for name in SIDES), strict=True)
    lines = [[str(step), *(f"{x:.4f}" for x in line)] for step, line in enumerate(losses, start=1)]
    return Table("losses", ["step", *SIDES], lines)


def settle(options: Options) -> tuple[ModelConfig, Settings, str]:
    """Returns the architecture, without drop path, the settings, and the device's name."""
    from m2f_jax.training import LossConfig, OptimizerConfig
    from m2f_jax.training.recipes import recipe

    with refusing("--preset: "):
        recipe_of = recipe(options.preset).train
    loss = recipe_of.loss
    if loss.num_points is None:  # of whole masks, which transformers doesn't have
        loss = dataclasses.replace(loss, num_points=LossConfig().num_points)
    threads = limit_threads(options.threads)
    device, kind = find_device(options.device)
    backbone = dataclasses.replace(recipe_of.model.backbone, drop_path_rate=0.0)
    settings = Settings(
        size=options.size,
        batch=options.batch,
        steps=options.steps,
        dtype=options.dtype,
        device=device,
        tf32=options.tf32,
        threads=threads,
        loss=loss,
        optimizer=OptimizerConfig(),
    )
    return dataclasses.replace(recipe_of.model, backbone=backbone), settings, kind


def main(arguments: Sequence[str] | None = None):
    """Trains with both sides and prints how they compare."""
    options = parse(Options, arguments)
    check_installed((THEIRS,))
    config, settings, device = settle(options)
    plain = {name: dataclasses.asdict(getattr(settings, name)) for name in ("loss", "optimizer")}
    options = dataclasses.replace(options, threads=settings.threads)
    described = compared(options, device, peers=THEIRS, **plain)
    notes = describe_run({"trainings of each side": options.repeats}, "optax", peers=(THEIRS,))
    comparison = Comparison("training", options, described, notes)
    runs: dict[str, list[Run]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say(f"fresh weights for {options.preset}")
        save = functools.partial(save_random_weights, noisy=False)
        in_a_process(save, config, folder, JAX_PLATFORMS="cpu")
        for repeat in range(options.repeats):
            for name in SIDES if repeat == 0 else (OURS, THEIRS):
                say(f"{name}, training {repeat + 1} of {options.repeats}")
                runs[name].append(train_alone(train, name, settings, folder))
    agreement = compare_losses(runs)
    comparison.publish(
        f"training {options.preset}, {options.batch} x {described['size']}",
        compare_costs(runs),
        others=[list_losses(runs)],
        notes={"agreement": agreement},
        runs={name: [run._asdict() for run in some] for name, some in runs.items()},
    )
    exact = settings.dtype == "float32" and not settings.tf32
    apart = agreement["same points, step 1"]
    if exact and not apart <= TOLERANCE:
        raise SystemExit(f"with the same points the first losses differ by {apart:.1e}")


if __name__ == "__main__":
    main()
