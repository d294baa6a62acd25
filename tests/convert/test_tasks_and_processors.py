"""Labels, task and processor of a checkpoint that doesn't say."""

import dataclasses
import json
import shutil

import pytest
from m2f_jax.convert import open_checkpoint
from m2f_jax.convert.guessing import adopt_labels, guess_task
from m2f_jax.convert.tables.huggingface import config as huggingface_config

from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import (
    ADE20K,
    ADE20K_FULL,
    CITYSCAPES,
    COCO,
    COCO_STUFF,
    MAPILLARY_VISTAS,
    numbered,
    things,
)
from tests.conftest import GOLDEN, MICRO
from tests.convert.conftest import CONFIG, PROCESSOR, SQUARE, edit, names_of


@pytest.mark.parametrize("labels", [things(CITYSCAPES), CITYSCAPES, things(COCO), COCO, ADE20K])
def test_published_classes_are_known_by_name(labels):
    assert adopt_labels(names_of(labels)) == labels
    spelled = [name.split(",")[0].upper().replace(" ", "_") for name in names_of(labels)]
    assert adopt_labels(spelled) == labels


def test_classes_of_ones_own():
    assert adopt_labels(["cat", "dog"]) == tuple(
        dataclasses.replace(label, name=name)
        for label, name in zip(numbered(2), ["cat", "dog"], strict=True)
    )
    labels = adopt_labels([f"LABEL_{k}" for k in range(19)])  # as many as Cityscapes by chance
    assert names_of(labels) == [f"LABEL_{k}" for k in range(19)]
    assert all(label.is_thing for label in labels)


@pytest.mark.parametrize(
    ("labels", "num_queries", "name", "origin", "task"),
    [
        (things(COCO), 100, "model_final.pkl", "", "instance"),
        (COCO, 100, "model_final.pkl", "", "panoptic"),
        (CITYSCAPES, 100, "model_final.pkl", "", "panoptic"),
        (CITYSCAPES, 100, "Cityscapes-Semantic", "", "semantic"),
        (ADE20K, 100, "model_final.pkl", "", "semantic"),
        (ADE20K, 200, "model_final.pkl", "", "panoptic"),
        (MAPILLARY_VISTAS, 100, "model_final.pkl", "", "semantic"),
        (MAPILLARY_VISTAS, 200, "model_final.pkl", "", "panoptic"),
        (COCO_STUFF, 171, "model_final.pkl", "", "semantic"),
        (ADE20K_FULL, 100, "model_final.pkl", "", "semantic"),
        (ADE20K, 100, "hf", "facebook/mask2former-swin-large-ade-panoptic", "panoptic"),
        (numbered(3), 100, "roads-semantic", "", "semantic"),
        (numbered(3), 100, "roads", "facebook/mask2former-swin-tiny-ade-semantic", "instance"),
        (ADE20K, 100, "panoptic/ade-instance", "", "instance"),
    ],
)
def test_task(labels, num_queries, name, origin, task):
    assert guess_task(labels, num_queries, name, origin) == task


def test_task_by_choice(authors, hugging_face):
    assert open_checkpoint(authors, task="semantic").config.task == "semantic"
    assert open_checkpoint(hugging_face, task="panoptic").config.task == "panoptic"


@pytest.fixture
def cityscapes(tmp_path):
    """A Hugging Face folder with the classes of a published model."""
    folder = shutil.copytree(GOLDEN / "tiny_w7_odd" / "hf", tmp_path / "cityscapes")
    names = names_of(things(CITYSCAPES))
    edit(folder / CONFIG, {"id2label": {str(k): name for k, name in enumerate(names)}})
    return folder


def test_published_models_are_used_at_the_size_that_they_were_tested_at(cityscapes, caplog):
    (cityscapes / PROCESSOR).write_text(json.dumps(SQUARE))
    checkpoint = open_checkpoint(cityscapes)
    processor = checkpoint.processor
    assert checkpoint.config.labels == things(CITYSCAPES)
    assert processor == ImageProcessor.for_model(checkpoint.config)
    assert (processor.shortest_edge, processor.longest_edge) == (1024, 2048)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert str(cityscapes / PROCESSOR) in record.getMessage()
    assert "shortest edge 1024 and longest 2048" in record.getMessage()


def test_no_warning_where_the_sizes_agree(cityscapes, caplog):
    size = {"shortest_edge": 1024, "longest_edge": 2048}
    (cityscapes / PROCESSOR).write_text(json.dumps(SQUARE | {"size": size}))
    open_checkpoint(cityscapes)
    (cityscapes / PROCESSOR).unlink()
    open_checkpoint(cityscapes)
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (384, 2048)),
        ({"size": {"shortest_edge": 512}}, (512, 2048)),
        ({"size": {"shortest_edge": 512, "longest_edge": 800}}, (512, 800)),
        ({"size": {"height": 640, "width": 480}, "_max_size": ...}, (480, None)),
        ({"size": 480, "max_size": 900}, (480, 900)),  # of early versions
        ({"size": {"shortest_edge": 480, "longest_edge": None}}, (480, 2048)),
        ({"size": ...}, (None, 2048)),
        ({"do_resize": False}, (None, 2048)),
    ],
)
def test_models_of_ones_own_keep_their_size(hugging_face, caplog, changes, size):
    (hugging_face / PROCESSOR).write_text(json.dumps(SQUARE))
    edit(hugging_face / PROCESSOR, changes)
    processor = open_checkpoint(hugging_face).processor
    assert (processor.shortest_edge, processor.longest_edge) == size
    assert processor.mean == (123.675, 116.28, 103.53)
    assert processor.std == (58.395, 57.12, 57.375)
    assert processor.size_divisor == 32
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_normalize": False}, "do_normalize is False"),
        ({"rescale_factor": 1}, "rescale_factor is 1"),
        ({"size": {"height": "384"}}, "size: height has the value '384'; expected int"),
        ({"size": "384"}, "size: shortest_edge has the value '384'; expected int"),
        ({"max_size": 0.5}, "max_size has the value 0.5; expected int"),
        ({"image_mean": 0.5}, "image_mean needs a list, not 0.5"),
        ({"size_divisor": None}, "size_divisor has the value None; expected int"),
    ],
)
def test_processors_that_make_no_sense(hugging_face, changes, message):
    (hugging_face / PROCESSOR).write_text(json.dumps(SQUARE | changes))
    with pytest.raises(ValueError, match=rf"hf/{PROCESSOR}: {message}"):
        open_checkpoint(hugging_face)


@pytest.mark.parametrize("shortest", [None, 480])
@pytest.mark.parametrize("longest", [None, 1333])
def test_processors_survive_hugging_faces_form(shortest, longest):
    processor = ImageProcessor(
        shortest_edge=shortest, longest_edge=longest, mean=(1.0, 2.5, 3.0), size_divisor=16
    )
    values = huggingface_config.processor_to_huggingface(processor, MICRO)
    default = ImageProcessor(shortest_edge=7, longest_edge=7)
    assert huggingface_config.processor_from_huggingface(values, default, "") == processor
