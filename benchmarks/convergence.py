"""Trains a small Mask2Former with ours and with transformers' to the end, and scores both.

    python benchmarks/convergence.py --data streets --steps 600

Of each seed both sides begin with the same weights and see the same batches of generated streets,
losses, optimizer and schedule; only the points at which losses are taken are drawn by each. Both
models are scored by this project's evaluation, so that they differ by their training alone. Each
training run is a process of its own, and so can be repeated alone.
"""

import dataclasses
import functools
import itertools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from measuring.machine import check_installed, describe_run, limit_threads
from measuring.options import Count, OnMachine, OnStreets, Size, StreetCounts, parse
from measuring.processes import in_a_process
from measuring.records import OURS
from measuring.streets import base_recipe, find_streets, score
from measuring.tables import Table, publish, say
from peers import THEIRS, side
from peers.trainers.batches import Scenes, Settings
from peers.trainers.running import WARM_UP, Run, Steps, find_device, take_steps, train_alone
from peers.weights import save_random_weights

from m2f_jax.config import Task
from m2f_jax.files import read_json, write_json
from m2f_jax.training.recipes import STREETS, Recipe

SIDES = (OURS, THEIRS)
TASKS: dict[Task, str] = {"panoptic": "PQ", "semantic": "mIoU"}
LAST = 50  # steps whose mean is the last loss


@dataclass(frozen=True, kw_only=True)
class Options(OnMachine, OnStreets):
    """Train a small Mask2Former with ours and with transformers' to the end, and score both."""

    images: StreetCounts = (400, 50)
    """How many streets to draw for training and for scoring."""
    size: Size = (128, 256)
    """Height and width of the crops, in multiples of 32."""
    dtype: Literal["float32"] = "float32"
    """The dtype of the computation."""
    batch: Count = STREETS.batch_size
    """Crops in a step."""
    steps: Steps = 600
    """Steps of each training run; the first two aren't timed."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of fresh weights, batches and points; each side trains once with each."""


def train(
    name: str, settings: Settings, folder: Path, out: Path, data: Path, recipe: Recipe
) -> None:
    """Takes all steps of one side, and writes the model and `run.json`."""
    from m2f_jax.datasets.opening import open_dataset
    from m2f_jax.training.data import batches

    trainer = side(name, "Trainer")(folder, settings)
    examples = open_dataset(data, "train", recipe.train.model.task)
    with batches(examples, recipe.data(settings.seed)) as stream:
        scenes = (
            Scenes(*map(np.asarray, batch[: len(Scenes._fields)]))
            for batch in itertools.islice(stream, settings.steps)
        )
        run = take_steps(trainer, scenes, settings, every=LAST)
    trainer.save(out)
    recipe.processor().save_pretrained(out)
    write_json(out / "run.json", run._asdict())


def measure(
    folder: Path, name: str, seed: int, options: Options, settings: Settings, recipe: Recipe
) -> dict[str, Any]:
    """Returns one row of the table; what is finished isn't trained again."""
    start, out = folder / f"start-{seed}", folder / f"{name}-{seed}" / "model"
    if not (out / "run.json").exists():
        say(f"{name}, seed {seed}")
        if not (start / "config.json").exists():
            save = functools.partial(save_random_weights, noisy=False, seed=seed)
            in_a_process(save, recipe.train.model, start, JAX_PLATFORMS="cpu")
        settings = settings._replace(seed=seed)
        train_alone(train, name, settings, start, out, options.data, recipe)
    run = Run(**read_json(out / "run.json"))
    return {
        "side": name,
        "seed": seed,
        **{metric: score(out, options.data, task)[metric] for task, metric in TASKS.items()},
        "first loss": run.losses[0],
        "last loss": statistics.mean(run.losses[-LAST:]),
        "step, s": statistics.median(run.seconds[WARM_UP:]),
        "peak memory, MiB": run.peak_mib,
    }


def summarize(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the mean of each side over its seeds, with the lowest and the highest."""
    lines = []
    for name in SIDES:
        line: dict[str, Any] = {"side": name}
        for key in (*TASKS.values(), "last loss", "step, s", "peak memory, MiB"):
            values = [row[key] for row in rows if row["side"] == name]
            line[key] = f"{statistics.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})"
        lines.append(line)
    return lines


def main(arguments: Sequence[str] | None = None):
    """Trains with both sides and prints what came out."""
    options = parse(Options, arguments)
    check_installed((THEIRS,))
    threads = limit_threads(options.threads)
    device, kind = find_device(options.device)
    find_streets(options.data, options.images, options.size)
    recipe = dataclasses.replace(base_recipe(options.size), batch_size=options.batch)
    optimizer = dataclasses.replace(recipe.train.optimizer, warmup_steps=0)
    recipe = dataclasses.replace(
        recipe,
        train=dataclasses.replace(recipe.train, steps=options.steps, optimizer=optimizer),
    )
    settings = Settings(
        size=options.size,
        batch=options.batch,
        steps=options.steps,
        dtype=options.dtype,
        device=device,
        tf32=False,
        threads=threads,
        loss=recipe.train.loss,
        optimizer=optimizer,
    )
    notes = describe_run({"seeds": len(options.seeds)}, "optax", peers=(THEIRS,))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        rows = [
            measure(folder, name, seed, options, settings, recipe)
            for seed in options.seeds
            for name in SIDES
        ]
    height, width = options.size
    title = f"{options.steps} steps of {options.batch} crops of {height} x {width} on {kind}"
    tables = [Table.of(title, rows), Table.of("means", summarize(rows))]
    content = {"benchmark": "convergence", "settings": title, **notes, "rows": rows}
    publish(options, tables, notes, content)


if __name__ == "__main__":
    main()
