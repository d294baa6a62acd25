"""Reports of a training run: lines on the terminal, the log, pictures, and the models it writes."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.eval.evaluation import evaluate
from m2f_jax.eval.results.headline import MAIN_SCORES
from m2f_jax.files import naming
from m2f_jax.images import read_image
from m2f_jax.inference.processor import FOR_DISPLAY, ImageProcessor
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.modeling.model import Model
from m2f_jax.training.recipes import Recipe
from m2f_jax.training.running.logs import LOG_FILE, Log, read_log
from m2f_jax.visualization.drawing import draw_instances, draw_panoptic, draw_semantic

PICTURES = 4  # evaluation images that are drawn


class Run:
    """The reports of one training run, and the models that it writes."""

    def __init__(
        self,
        out: Path,
        chosen: Recipe,
        held_out: Dataset | None,
        evaluate_images: int | None,
        step: int,
        console: Console,
    ):
        """Begins the reports of a run that continues after `step`."""
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
        """Prints a line, and adds it to the log."""
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

    def evaluate(self, step: int, model: Model):
        """Saves the model and scores it; saves it as the best one, too, if it is."""
        processor = self.chosen.processor()
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

    def segmenter_of(self, model: Model, processor: ImageProcessor) -> Segmenter:
        """Returns the run's segmenter with a model's parameters; only the first call compiles."""
        if self.segmenter is None:
            self.segmenter = Segmenter(model, processor, jax.local_devices())
        else:
            self.segmenter.set_parameters(model)
        return self.segmenter


def best_score(out: Path, name: str) -> float | None:
    """Returns the best score in a training run's log so far."""
    scores = (entry.get(name) for entry in read_log(out / LOG_FILE))
    return max((score for score in scores if score is not None), default=None)


def left(seconds: float) -> str:
    """Returns a duration for people."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def save(model: Model, processor: ImageProcessor, folder: Path):
    """Writes a model with its processor."""
    folder.mkdir(parents=True, exist_ok=True)
    with naming(folder):
        processor.save_pretrained(folder)
        model.save_pretrained(folder)


def draw(segmenter: Segmenter, path: Path) -> np.ndarray:
    """Draws what the model finds in an image over it."""
    image = read_image(path)
    names = [label.name for label in segmenter.config.labels]
    found = segmenter(image, threshold=FOR_DISPLAY)
    if isinstance(found, InstanceSegmentation):
        return draw_instances(image, found, names)
    if isinstance(found, PanopticSegmentation):
        return draw_panoptic(image, found, names)
    return draw_semantic(image, found, names)
