"""A data set from outside the package: trained on and evaluated on by its members alone."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from m2f_jax.eval import EvaluationError, evaluate
from PIL import Image

from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import Label
from m2f_jax.training import LossConfig, TrainConfig, TrainState, train_step
from m2f_jax.training.augment import random_crops
from tests.conftest import MICRO


@dataclasses.dataclass(frozen=True)
class Disk:
    name: str
    image: Path

    @property
    def id(self):
        return self.name


@dataclasses.dataclass
class Disks:
    """Pictures of one bright disk each; even ones are suns."""

    images: list[Disk]
    task = "instance"
    rules = "coco"
    title = "disks"
    labels = categories = (
        Label(id=1, name="sun", is_thing=True),
        Label(id=2, name="moon", is_thing=True),
    )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        pixels = np.asarray(Image.open(self.images[index].image))
        return Example(pixels, self.ground_truth(index, self.task))

    def check(self, index):
        return np.bincount([index % 2], minlength=2)

    def ground_truth(self, index, _task):
        rows, columns = np.mgrid[:64, :64]
        disk = (rows - 32) ** 2 + (columns - 20 - 4 * index) ** 2 < 150
        return Segments(disk.astype(np.int32), np.array([[False, True]]), np.int32([index % 2]))

    def files(self, index, _task):
        return [self.images[index].image]


@pytest.fixture
def disks(tmp_path):
    data = Disks([Disk(f"disk{k}", tmp_path / f"disk{k}.png") for k in range(4)])
    for index, disk in enumerate(data.images):
        grey = 200 * data.ground_truth(index, data.task).regions
        Image.fromarray(np.stack([grey] * 3, -1).astype(np.uint8)).save(disk.image)
    return data


@pytest.fixture
def segmenter(micro):
    return Segmenter(micro, ImageProcessor())


def test_it_is_trained_on_and_evaluated_on(disks, toys):
    pytest.importorskip("grain", reason="needs grain (pip install m2f-jax[train])")
    from m2f_jax.training.data import DataConfig, batches
    from m2f_jax.training.initialize import initialize

    model = dataclasses.replace(MICRO, labels=disks.labels, task="instance", **toys)
    config = TrainConfig(model=model, steps=2, loss=LossConfig(num_points=16))
    state = TrainState.of(initialize(model, 0, "float32"), config)
    settings = DataConfig(augmentation=random_crops((64, 64), 64, 128), batch_size=2)
    with batches(disks, settings, threads=2) as data:
        for batch in (next(data), next(data)):
            placed = state.partitioner.put_batch(batch)
            state, metrics = train_step(state, placed, jax.random.key(0))
    assert np.isfinite(metrics.loss)
    outcome = evaluate(Segmenter(state.model(), ImageProcessor()), disks)
    assert list(outcome.result.per_category) == ["sun", "moon"]
    assert 0 <= outcome.scores["AP"] <= 100


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_other_tasks(disks, micro, task, tmp_path):
    model = dataclasses.replace(micro.config, labels=disks.labels)
    segmenter = Segmenter(micro, ImageProcessor())
    segmenter.config = model
    outcome = evaluate(segmenter, disks, task=task, out=tmp_path / "out", limit=2)
    assert (tmp_path / "out" / "results.json").is_file()
    assert len(list((tmp_path / "out").glob("tables/*/*.npz"))) == 2
    again = evaluate(segmenter, disks, task=task, out=tmp_path / "out", limit=2)
    assert again.scores == outcome.scores


def test_failures_and_other_classes_are_named(disks, segmenter):
    with pytest.raises(ValueError, match="class 0, class 1; theirs are sun, moon"):
        evaluate(segmenter, disks)
    segmenter.config = dataclasses.replace(segmenter.config, labels=disks.labels)
    disks.images[1].image.write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match=r"1 of 4 images failed.*disk1\.png") as info:
        evaluate(segmenter, disks)
    [(image, _)] = info.value.failures
    assert image.name == "disk1"
    disks.images[2].image.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 4 files of disks are missing.*disk2"):
        evaluate(segmenter, disks)
