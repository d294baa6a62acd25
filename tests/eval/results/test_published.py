"""Measured scores are held against the authors' only where both are of the same."""

import dataclasses
import itertools
import re
import types

import pytest
from m2f_jax.eval.results.comparable import published_scores
from m2f_jax.eval.results.published import Published

from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import CITYSCAPES
from m2f_jax.presets import DATA_SETS, PRESETS
from tests.conftest import MICRO


class Images:
    """A data set of which only names are there."""

    title, task, labels, categories = "some images", "instance", (), CITYSCAPES

    def __init__(self, names, rules="coco"):
        self.images = [types.SimpleNamespace(name=name) for name in names]
        self.rules = rules

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        raise NotImplementedError

    check = ground_truth = files = __getitem__


def cityscapes(counts=DATA_SETS["cityscapes"].cities):
    names = itertools.chain.from_iterable(
        (f"{city}_{k:06d}_000019" for k in range(count)) for city, count in counts.items()
    )
    return Images(names, "cityscapes")


def coco(count=5000):
    return Images(f"{k:012d}" for k in range(count))


def compare(name, dataset, task=None, *, count=None, source=None, **settings):
    config = PRESETS[name].config
    processor = dataclasses.replace(ImageProcessor.for_model(config), **settings)
    count = len(dataset) if count is None else count
    return published_scores(config, processor, dataset, task or config.task, count, source)


@pytest.mark.parametrize(
    ("name", "dataset", "task", "scores"),
    [
        ("swin-large-cityscapes-instance", cityscapes(), "instance", {"AP": 43.7, "AP50": 71.4}),
        ("resnet50-cityscapes-panoptic", cityscapes(), "panoptic", {"PQ": 62.1}),
        ("resnet50-cityscapes-panoptic", cityscapes(), "instance", {"AP": 37.3}),
        ("resnet50-cityscapes-panoptic", cityscapes(), "semantic", {"mIoU": 77.5}),
        ("swin-tiny-coco-panoptic", coco(), "panoptic", {"PQ": 53.2}),
        ("swin-tiny-ade-semantic", coco(2000), "semantic", {"mIoU": 47.7}),
    ],
)
def test_scores_of_the_same_evaluation(name, dataset, task, scores):
    assert compare(name, dataset, task) == Published(model=name, scores=scores)


def test_all_things_are_all_things():
    name = "swin-large-cityscapes-instance"
    assert compare(name, cityscapes(), thing_classes=None) == compare(name, cityscapes())


@pytest.mark.parametrize(
    ("dataset", "changes", "problem"),
    [
        (cityscapes(), {"count": 499}, "is of the 500 validation images of Cityscapes, and this is "
         "of 499"),
        (cityscapes({"aachen": 2975}), {}, "is of the 500 .*, and this is of 2975"),
        (cityscapes({"town": 500}), {}, "is of the 500 .*, and these images are others"),
        (coco(500), {}, "is of the 500 .*, and this was counted by the rules of another data set"),
        (cityscapes(), {"shortest_edge": 512}, "was measured with shortest_edge 1024 instead of "
         "512$"),
        (cityscapes(), {"shortest_edge": None, "longest_edge": None}, "was measured with "
         "shortest_edge 1024 instead of None, longest_edge 2048 instead of None$"),
        (cityscapes(), {"thing_classes": (0,)}, "was measured with other thing_classes$"),
    ],
)  # fmt: skip
def test_another_evaluation_is_not_compared(dataset, changes, problem):
    name = "swin-large-cityscapes-instance"
    published = compare(name, dataset, **changes)
    assert (published.model, published.scores) == (name, {})
    start = rf"^the published AP 43\.7, AP50 71\.4 of {name} "
    assert re.search(start + problem, published.problem)


def test_a_task_without_a_published_score_and_other_models_say_nothing():
    assert compare("swin-tiny-cityscapes-instance", cityscapes(), "semantic") == Published()
    processor = ImageProcessor.for_model(MICRO)
    assert published_scores(MICRO, processor, coco(), "instance", 5000) == Published()


def test_models_that_are_configured_alike_are_told_apart_by_their_source():
    name = "swin-base-IN21k-coco-instance"
    for source in (
        f"facebook/mask2former-{name}",
        "files/model_final_83d103.pkl",
        f"models/{name}",
    ):
        assert compare(name, coco(), source=source).scores == {"AP": 48.1}
    for source in (None, "model.pkl", "facebook/mask2former-swin-tiny-coco-instance"):
        published = compare(name, coco(), source=source)
        assert (published.model, published.scores) == (None, {})
        assert published.problem.startswith(f"swin-base-coco-instance and {name} are configured")
    # Its name alone doesn't make a model of another configuration the published one.
    changed = dataclasses.replace(PRESETS[name].config, labels=MICRO.labels)
    processor = ImageProcessor.for_model(changed)
    assert published_scores(changed, processor, coco(), "instance", 5000, name) == Published()


def test_objects_cut_out_of_a_panoptic_file_are_not_cocos(monkeypatch):
    dataset = coco()
    dataset.panoptic = True
    monkeypatch.setattr("m2f_jax.eval.results.comparable.CocoDataset", Images)
    published = compare("swin-tiny-coco-panoptic", dataset, "instance")
    assert "is of objects that may overlap" in published.problem
    assert compare("swin-tiny-coco-panoptic", dataset, "panoptic").scores == {"PQ": 53.2}


def test_differences_in_results():
    published = Published(model="x", scores={"AP": 40.0})
    values = published.to_dict({"AP": 41.5, "AP75": 1.0})
    assert values["differences"] == {"AP": 1.5}
    assert values["problem"] == ""
