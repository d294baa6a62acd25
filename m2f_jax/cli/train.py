"""`m2f train`: from a recipe and a folder of images to a model."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from m2f_jax.cli.arguments import Train, parse_size
from m2f_jax.cli.processes import join_processes
from m2f_jax.cli.progress import ImageProgress
from m2f_jax.cli.terminal import terminal
from m2f_jax.cli.train_data import find_data
from m2f_jax.config import from_plain, to_plain
from m2f_jax.datasets.dataset import Dataset, check_examples, with_segments
from m2f_jax.eval.evaluation import evaluate
from m2f_jax.eval.scores import MAIN_SCORES
from m2f_jax.files import read_json, write_json
from m2f_jax.images import read_image
from m2f_jax.inference.processor import FOR_DISPLAY, ImageProcessor
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.pretrained import start_from
from m2f_jax.training.checkpoints import Checkpoints, check_space
from m2f_jax.training.data import DataConfig, batches
from m2f_jax.training.initialize import initialize
from m2f_jax.training.logs import LOG_FILE, Log, read_lines
from m2f_jax.training.loop import Intervals
from m2f_jax.training.loop import run as run_loop
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.recipes import Recipe, recipe
from m2f_jax.training.state import TrainState
from m2f_jax.visualization.drawing import draw_instances, draw_panoptic, draw_semantic

SETTINGS_FILE = "train.json"
PICTURES = 4  # evaluation images that are drawn


def run(command: Train) -> int:
    """Trains, or goes on training."""
    join_processes(command.processes)
    console = terminal(quiet=jax.process_index() > 0)
    chosen = with_overrides(recipe(command.recipe), command)
    data = find_data(Path(command.data), chosen.train.model.task, None, command.invalid)
    chosen = dataclasses.replace(
        chosen,
        train=dataclasses.replace(
            chosen.train,
            model=dataclasses.replace(chosen.train.model, labels=tuple(data.examples.labels)),
        ),
    )
    out = Path(command.out)
    if jax.process_index() == 0:
        keep_settings(out, settings_of(chosen, command))
    with ImageProgress("checking", len(data.examples), console) as progress:
        counts = check_examples(data.examples, lambda done, _: progress.advance() if done else None)
    examples = with_segments(data.examples, counts)

    model = first_model(chosen, command, console)
    partitioner = Partitioner.over(shard_parameters=command.shard_parameters)
    state = TrainState.of(model, chosen.train, partitioner)
    check_space(out / "checkpoints", state)
    checkpoints = Checkpoints(out / "checkpoints")
    config = DataConfig(
        augmentation=chosen.augmentation,
        batch_size=chosen.batch_size,
        max_segments=chosen.max_segments,
        keep_empty=chosen.keep_empty,
        seed=command.seed,
    )
    place = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    with (
        contextlib.closing(checkpoints),
        batches(
            examples, config, threads=command.threads, workers=command.workers, **place
        ) as stream,
    ):
        if checkpoints.latest is not None:
            state, position = checkpoints.restore(state)
            stream.set_state(position)
            console.print(f"going on after step {int(state.step)} of {chosen.train.steps}")
        intervals = Intervals(
            log=command.log_every, save=command.save_every, evaluate=command.evaluate_every
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


def with_overrides(chosen: Recipe, command: Train) -> Recipe:
    """The recipe with what the command line says otherwise."""

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    optimizer = dataclasses.replace(
        chosen.train.optimizer, **given(learning_rate=command.learning_rate)
    )
    dtype = command.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    train = dataclasses.replace(
        chosen.train,
        optimizer=optimizer,
        dtype=dtype,
        remat=command.remat,
        **given(
            steps=command.steps,
            accumulate=command.accumulate,
            average_decay=command.average_decay,
        ),
    )
    augmentation = chosen.augmentation
    if command.size is not None:
        augmentation = dataclasses.replace(augmentation, size=parse_size(command.size))
    return dataclasses.replace(
        chosen,
        train=train,
        augmentation=augmentation,
        **given(batch_size=command.batch_size),
    )


def settings_of(chosen: Recipe, command: Train) -> dict[str, Any]:
    """Everything that decides the result, as JSON has it."""
    settings = {
        "recipe": command.recipe,
        "data": command.data,
        "from": command.from_,
        "seed": command.seed,
        "settings": to_plain(chosen),
    }
    return json.loads(json.dumps(settings))


def keep_settings(out: Path, settings: Mapping[str, Any]):
    """Writes them into the output folder, or finds the same there.

    Raises:
        FileExistsError: the folder holds another training.
    """
    path = out / SETTINGS_FILE
    if path.exists():
        there = read_json(path)
        # Written again, so that a file without parts' types, as of version 0.1, compares equal.
        there |= {"settings": to_plain(from_plain(Recipe, there["settings"], str(path)))}
        if there != settings:
            different = difference(there, settings)
            raise FileExistsError(
                f"{out} holds a training with other settings ({different}); name another --out, or "
                "give the same settings to go on with it"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def difference(there: Any, now: Any, where: str = "") -> str:
    """The first value in which two settings differ."""
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        for name in {**there, **now}:
            if there.get(name) != now.get(name):
                return difference(there.get(name), now.get(name), f"{where}.{name}".lstrip("."))
    return f"{where} was {there}, and is {now}"


def first_model(chosen: Recipe, command: Train, console: Console) -> Mask2Former:
    """The model before the first step."""
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
        console.print(f"{command.from_} has other classes; these start afresh: {', '.join(fresh)}")
    return model


class Run:
    """What a training reports to: the terminal, the log, and the models that it leaves."""

    def __init__(
        self,
        out: Path,
        chosen: Recipe,
        held_out: Dataset | None,
        evaluate_images: int | None,
        step: int,
        console: Console,
    ):
        """A run that continues after `step`."""
        self.out, self.chosen, self.console = out, chosen, console
        self.held_out, self.evaluate_images = held_out, evaluate_images
        self.main_score = MAIN_SCORES[chosen.train.model.task]
        self.first = jax.process_index() == 0
        self.log = Log(out, step) if self.first else None
        self.started, self.started_at = time.perf_counter(), step
        self.best = best_score(out, self.main_score) if self.first else None
        self.segmenter: Segmenter | None = None
        self.improved = False

    def close(self):
        """Ends the log."""
        if self.log is not None:
            self.log.close()

    def report(self, step: int, numbers: Mapping[str, float]):
        """A line on the terminal and in the log."""
        if self.log is None:
            return
        self.log.add(step, numbers)
        steps = self.chosen.train.steps
        seconds = (time.perf_counter() - self.started) / (step - self.started_at)
        skipped = f", {numbers['skipped']} skipped" if numbers["skipped"] else ""
        best = f", best {self.main_score} {self.best:.1f}" if self.best is not None else ""
        self.console.print(
            f"step {step} of {steps}: loss {numbers['loss']:.2f}, "
            f"{numbers['images/s']:.1f} images/s, {numbers['memory GiB']:.1f} GiB{skipped}{best}, "
            f"{left((steps - step) * seconds)} left"
        )

    def evaluate(self, step: int, model: Mask2Former):
        """Scores the model, keeps it, and keeps it as the best if it is."""
        processor = self.processor(model)
        if self.first:
            save(model, processor, self.out / "model")
        images = self.held_out.images[: self.evaluate_images] if self.held_out else ()
        if self.held_out is None or not images:
            return
        segmenter = self.segmenter_of(model, processor)
        self.score(step, segmenter, self.held_out, images)
        # Until the next evaluation, the device's memory is for training.
        segmenter.parameters = jax.device_get(segmenter.parameters)
        if self.improved:
            save(model, processor, self.out / "best")

    def score(self, step: int, segmenter: Segmenter, held_out: Dataset, images: Sequence[Any]):
        """Evaluates the model, and logs scores and pictures."""
        self.improved = False
        with ImageProgress("evaluating", len(images), self.console) as progress:
            evaluated = evaluate(
                segmenter,
                held_out,
                limit=self.evaluate_images,
                progress=lambda _, error: progress.advance(ok=error is None),
            )
        scores = evaluated.scores
        if self.log is None:
            return
        self.console.print(
            f"step {step}: " + ", ".join(f"{name} {value:.1f}" for name, value in scores.items())
        )
        self.log.add(step, scores)
        for item in images[:PICTURES]:
            self.log.add_picture(step, item.name, draw(segmenter, item.image))
        if self.best is None or scores[self.main_score] > self.best:
            self.best, self.improved = scores[self.main_score], True

    def segmenter_of(self, model: Mask2Former, processor: ImageProcessor) -> Segmenter:
        """The run's segmenter with this model's parameters; only the first call compiles."""
        if self.segmenter is None:
            self.segmenter = Segmenter(model, processor, jax.local_devices())
        else:
            self.segmenter.set_parameters(model)
        return self.segmenter

    def processor(self, model: Mask2Former) -> ImageProcessor:
        """How images are prepared for the model."""
        shortest, longest = self.chosen.test_size or (None, None)
        return dataclasses.replace(
            ImageProcessor.for_model(model.config), shortest_edge=shortest, longest_edge=longest
        )


def best_score(out: Path, name: str) -> float | None:
    """The best score in a training's log so far."""
    entries = [json.loads(line) for line in read_lines(out / LOG_FILE)]
    return max((entry[name] for entry in entries if name in entry), default=None)


def left(seconds: float) -> str:
    """A duration for people."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def save(model: Mask2Former, processor: ImageProcessor, folder: Path):
    """Writes a model with its processor."""
    folder.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(folder)
    model.save_pretrained(folder)


def draw(segmenter: Segmenter, path: Path) -> np.ndarray:
    """An image with what the model finds in it."""
    image = read_image(path)
    names = [label.name for label in segmenter.config.labels]
    found = segmenter(image, threshold=FOR_DISPLAY)
    if isinstance(found, InstanceSegmentation):
        return draw_instances(image, found, names)
    if isinstance(found, PanopticSegmentation):
        return draw_panoptic(image, found, names)
    return draw_semantic(image, found, names)
