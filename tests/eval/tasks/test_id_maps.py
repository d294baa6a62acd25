"""Evaluation during training on a user's own images with maps of ids."""

import dataclasses
import json

import numpy as np
import pytest
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax.cli.training.data import find_data
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.labels import Label

CAT, DOG, GRASS = (
    Label(id=3, name="cat", is_thing=True),
    Label(id=7, name="dog", is_thing=True),
    Label(id=20, name="grass", is_thing=False),
)
SIZE = (24, 32)


@pytest.fixture
def folder(tmp_path):
    """Two images to evaluate on: a cat, a dog, grass, and a corner of nothing."""
    ids = np.full(SIZE, GRASS.id)
    ids[:4, :4] = 0
    ids[8:16, 2:12] = 1000 * CAT.id
    ids[10:20, 16:30] = 1000 * DOG.id + 1
    labels = [dataclasses.asdict(label) for label in (CAT, DOG, GRASS)]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    for part in ("train", "val"):
        for kind in ("images", "ids"):
            (tmp_path / part / kind).mkdir(parents=True)
        for name in ("a", "b"):
            Image.new("RGB", SIZE[::-1]).save(tmp_path / part / "images" / f"{name}.jpg")
            Image.fromarray(ids.astype(np.uint16)).save(tmp_path / part / "ids" / f"{name}.png")
    return tmp_path


def evaluate(folder, task, segmentation_of):
    """The result for predictions that are made of the truth."""
    data = find_data(folder, task, None).held_out
    evaluation = evaluation_of(data, task)
    metric = evaluation.empty()
    for index, item in enumerate(data.images):
        assert data[index].image.shape == (*SIZE, 3)
        found, truth = segmentation_of(item), evaluation.truth(index)
        metric.merge(evaluation.measure(index, truth, found))
    return metric.result()


def masks_of(folder):
    ids = np.asarray(Image.open(folder / "val" / "ids" / "a.png"))
    return ids == 1000 * CAT.id, ids == 1000 * DOG.id + 1, ids == GRASS.id


def test_instances(folder):
    cat, dog, _ = masks_of(folder)

    def found(item):
        labels = [0, 1] if item.name == "a" else [1, 0]  # in the second image confused
        return InstanceSegmentation.from_masks(
            scores=np.array([0.9, 0.8], np.float32) - 0.5 * (item.name == "b"),
            labels=np.array(labels),
            masks=np.stack([cat, dog]),
            queries=np.arange(2),
        )

    result = evaluate(folder, "instance", found)
    assert list(result.per_category) == ["cat", "dog"]
    # The first of two is right, and precision is 1 up to a recall of a half: 51 of 101 points.
    assert result.ap == pytest.approx(51 / 101)


@pytest.mark.parametrize("right", [True, False])
def test_panoptic(folder, right):
    masks = masks_of(folder)
    if not right:  # the grass is missing
        masks = masks[:2]

    def found(item):
        del item
        segments = tuple(
            Segment(id=k, label=k - 1, is_thing=k < 3, score=0.9) for k in range(1, len(masks) + 1)
        )
        return PanopticSegmentation(
            segment_map=sum(k * mask for k, mask in enumerate(masks, 1)).astype(np.int32),
            segments=segments,
        )

    result = evaluate(folder, "panoptic", found)
    assert result.things.pq == 1
    assert result.stuff.pq == right


def test_semantic(folder):
    cat, dog, _ = masks_of(folder)

    def found(item):
        del item
        return np.where(cat, 0, 2).astype(np.int32)  # the dog is grass; nothing may be anything

    result = evaluate(folder, "semantic", found)
    grass = 24 * 32 - cat.sum() - dog.sum() - 16
    ious = {name: x.iou for name, x in result.per_class.items()}
    assert ious == {"cat": 1, "dog": 0, "grass": pytest.approx(grass / (grass + dog.sum()))}


def test_without_val_there_is_none(folder):
    (folder / "val").rename(folder / "other")
    data = find_data(folder, "panoptic", None)
    assert data.held_out is None


def test_the_model_of_a_training_set_is_evaluated_on_its_classes(folder):
    data = find_data(folder, "instance", None)
    assert [item.name for item in data.held_out.images] == ["a", "b"]
    assert data.held_out.categories == data.examples.labels == (CAT, DOG)
