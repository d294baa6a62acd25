"""`m2f predict` with a stub in place of a model, and what it left in its folder."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.cli.commands import predict
from m2f_jax.inference.prefetching import Pending
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.labels import Label

LABELS = (Label(id=301, name="cat", is_thing=True), Label(id=557, name="dog", is_thing=True))
OTHERS = (LABELS[0], Label(id=557, name="dingo", is_thing=True))


class Stub:
    """Finds two objects, whose scores are the red and the green of the first pixel."""

    capacity = 1

    def prepare(self, image):
        return SimpleNamespace(pixels=image, bucket=None)

    def submit(self, batch, task, *, threshold=0.0, top_k=100):
        return [
            Pending(functools.partial(segment, x.pixels, task, threshold, top_k)) for x in batch
        ]


def segment(image, task, threshold, top_k):
    height, width, _ = image.shape
    labels = np.arange(height * width).reshape(height, width) % 2
    if task == "semantic":
        return labels
    scores = image[0, 0, :2].astype(np.float32) / 255
    if task == "panoptic":
        segments = [Segment(id=1, label=1, is_thing=True, score=float(scores[0]))]
        return PanopticSegmentation(segment_map=labels.astype(int), segments=tuple(segments))
    kept = np.flatnonzero(scores >= threshold)[:top_k]
    return InstanceSegmentation.from_masks(
        scores=scores[kept],
        labels=kept,
        masks=np.stack([labels == 0, labels == 1])[kept],
        queries=kept,
    )


def picture(path: Path, red: int = 200, size=(6, 4), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 150, 0)).save(path, **options)
    return path


class Runs:
    """Runs the command beside a model, whose facts can be changed from run to run.

    `first` is the image for which it was to compile programs while the model was read.
    """

    def __init__(self, monkeypatch, capsys):
        self.capsys, self.model, self.first = capsys, {}, None
        monkeypatch.setattr(predict, "open_checkpoint", self.open)

    def open(self, command, first):
        self.first = first
        facts = {"labels": LABELS, "dtype": "float32", "weights": "w", "processor": "p"}
        facts |= {"task": command.task or "instance", "top_k": command.top_k or 100}
        return predict.OpenedModel(segmenter=Stub(), **{**facts, **self.model})

    def __call__(self, *arguments, out) -> int:
        """The exit code; `lines` has what was printed."""
        code = main(["predict", *map(str, arguments), "--out", str(out)])
        self.text = self.capsys.readouterr().err
        self.lines = self.text.splitlines()
        return code


@pytest.fixture
def run(monkeypatch, capsys):
    return Runs(monkeypatch, capsys)


def read(path: Path):
    return json.loads(path.read_text())


def reds(out: Path) -> dict[int | str, int]:
    """The red of each image in predictions.json, by id."""
    first = {x["image_id"]: x["score"] for x in reversed(read(out / "predictions.json"))}
    return {image_id: round(score * 255) for image_id, score in first.items()}


def files(out: Path) -> set[str]:
    found = {x.relative_to(out).as_posix() for x in out.rglob("*") if x.is_file()}
    return found - {"predict.lock"}


def annotations(path: Path, images) -> Path:
    sized = [{"height": 4, "width": 6, **x} if isinstance(x, dict) else x for x in images or ()]
    categories = [{"id": x.id, "name": x.name} for x in LABELS]
    content = {"images": images and sized, "annotations": [], "categories": categories}
    path.write_text(json.dumps(content))
    return path
