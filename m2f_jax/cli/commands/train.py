"""`m2f train`: from a recipe and a folder of images to a model."""

import contextlib
from pathlib import Path

import jax
from rich.console import Console

from m2f_jax.cli.arguments import Train
from m2f_jax.cli.environment.processes import join_processes
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.cli.training.data import TrainingData, check_data, find_data
from m2f_jax.cli.training.report import Run
from m2f_jax.cli.training.settings import (
    Settings,
    check_machine,
    chosen_recipe,
    with_overrides,
)
from m2f_jax.config import VideoMask2FormerConfig
from m2f_jax.datasets.checked_files import CheckedFiles
from m2f_jax.files.folder_lock import only_run_in
from m2f_jax.modeling.model import Model
from m2f_jax.pretrained import start_from
from m2f_jax.training.data import batches
from m2f_jax.training.initialize import initialize
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.recipes import Recipe
from m2f_jax.training.running.checkpoints import Checkpoints, check_space
from m2f_jax.training.running.loop import Intervals
from m2f_jax.training.running.loop import run as run_loop
from m2f_jax.training.state import TrainState

LOCK_FILE = "train.lock"
CHECKED_FILE = "checked.jsonl"


def run(command: Train) -> int:
    """Trains a model, or continues an interrupted run."""
    join_processes(command.processes)
    console = terminal(quiet=jax.process_index() > 0)
    chosen = with_overrides(chosen_recipe(command), command)
    if isinstance(chosen.train.model, VideoMask2FormerConfig):
        raise ValueError(
            f"{command.recipe or command.from_} is a model of videos, and m2f train reads images; "
            "m2f_jax.training.train_step takes batches of clips"
        )
    check_machine(chosen, command)
    data = find_data(Path(command.data), chosen.train.model.task, None, command.invalid)
    chosen = chosen.with_classes(data.examples.labels)
    if jax.process_index() > 0:
        return train(chosen, data, command, console)
    out = Path(command.out)
    out.mkdir(parents=True, exist_ok=True)
    with only_run_in(out, LOCK_FILE):
        Settings.of(chosen, command).keep(out)
        return train(chosen, data, command, console)


def train(chosen: Recipe, data: TrainingData, command: Train, console: Console) -> int:
    """Trains by a recipe in an output folder that is held."""
    out = Path(command.out)
    first = jax.process_index() == 0
    with CheckedFiles(out / CHECKED_FILE, command.invalid, write=first) as record:
        examples = check_data(
            data,
            evaluate_images=command.evaluate_images,
            keep_empty_images=chosen.keep_empty_images,
            trust=command.trust_data,
            record=record,
            console=console,
        )
    model = first_model(chosen, command, console)
    partitioner = Partitioner.over(shard_parameters=command.shard_parameters)
    state = TrainState.of(model, chosen.train, partitioner)
    check_space(out / "checkpoints", state)
    checkpoints = Checkpoints(out / "checkpoints")
    place = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    with (
        contextlib.closing(checkpoints),
        batches(
            examples,
            chosen.data(command.seed),
            threads=command.threads,
            workers=command.workers,
            **place,
        ) as stream,
    ):
        if checkpoints.latest is not None:
            state, position = checkpoints.restore(state)
            stream.set_state(position)
            console.print(f"going on after step {int(state.step)} of {chosen.train.steps}")
        usual = 5000 if command.recipe is not None else max(1, chosen.train.steps // 4)
        intervals = Intervals(
            log=command.log_every,
            save=command.save_every,
            evaluate=usual if command.evaluate_every is None else command.evaluate_every,
        )
        run_ = Run(out, chosen, data.held_out, command.evaluate_images, int(state.step), console)
        with contextlib.closing(run_):
            state = run_loop(
                state,
                stream,
                jax.random.key(command.seed),
                intervals,
                checkpoints,
                run_.report,
                run_.evaluate,
            )
    if int(state.step) < chosen.train.steps:
        console.print(f"stopped after step {int(state.step)}; run the same command again to go on")
        return 130
    console.print(f"the model is in {out / 'model'}")
    return 0


def first_model(chosen: Recipe, command: Train, console: Console) -> Model:
    """Returns the model before the first step."""
    config = chosen.train.model
    if command.from_ is None:
        return initialize(config, command.seed, chosen.train.dtype)
    model, fresh = start_from(
        command.from_, config, command.seed, chosen.train.dtype, revision=command.revision
    )
    if any(name.startswith("backbone.") for name in fresh):
        console.print(
            f"{command.from_} is a backbone alone; everything but the backbone starts afresh, and "
            "so do the norms of its outputs"
        )
    elif fresh:
        console.print(
            f"{command.from_} has other classes or queries; these start afresh, all else is kept: "
            f"{', '.join(fresh)}"
        )
    return model
