"""Recipes: the published numbers, and their JSON form."""

import dataclasses
import json

import pytest

from m2f_jax.config import FPNPixelDecoderConfig
from m2f_jax.plain import to_plain
from m2f_jax.presets import PRESETS
from m2f_jax.training.config import LossConfig
from m2f_jax.training.recipes import RECIPES, recipe
from tests.conftest import MICRO, ROOT


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(to_plain(recipe(name))))
    assert recipe(str(path)) == recipe(name)


@pytest.mark.parametrize("part", [1, 2, 3])
def test_recipes_of_version_0_1_are_read(part):
    """Without types of the model's parts; the model in the package was trained by these."""
    path = ROOT / "docs" / "streets" / f"{part}.json"
    assert "type" not in json.loads(path.read_text())["train"]["model"]["backbone"]
    model = recipe(str(path)).train.model
    assert dataclasses.replace(model, labels=MICRO.labels) == dataclasses.replace(
        recipe("streets").train.model, labels=MICRO.labels
    )


def test_ablations_survive_json(tmp_path):
    streets = recipe("streets")
    model = dataclasses.replace(
        streets.train.model,
        pixel_decoder=FPNPixelDecoderConfig(dim=64, mask_dim=64),
        decoder=dataclasses.replace(streets.train.model.decoder, masked=False),
    )
    train = dataclasses.replace(streets.train, model=model, loss=LossConfig(num_points=None))
    maskformer = dataclasses.replace(streets, train=train)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(to_plain(maskformer)))
    assert recipe(str(path)) == maskformer


@pytest.mark.parametrize("name", [x for x in PRESETS if PRESETS[x].architecture == "mask2former"])
def test_published_models_are_trained_as_published(name):
    ours, published = recipe(name), PRESETS[name]
    assert ours.batch_size == 16
    assert ours.train.optimizer.learning_rate == 1e-4
    assert ours.train.optimizer.backbone_multiplier == 0.1
    assert ours.train.loss.num_points == 12544
    assert ours.train.model == published.config
    assert ours.test_size == (published.shortest_edge, published.longest_edge)


@pytest.mark.parametrize(
    ("name", "steps", "size", "milestones"),
    [
        ("swin-large-cityscapes-instance", 90_000, (512, 1024), ()),
        ("swin-tiny-ade-semantic", 160_000, (512, 512), ()),
        ("resnet50-ade-semantic", 160_000, (512, 512), ()),
        ("resnet101-ade-semantic", 90_000, (512, 512), ()),
        ("resnet50-ade-panoptic", 160_000, (640, 640), ()),
        ("resnet50-coco-panoptic", 368_750, (1024, 1024), (327_778, 355_092)),
        ("swin-large-ade-semantic", 160_000, (640, 640), ()),
        ("swin-large-mapillary-vistas-panoptic", 300_000, (1024, 1024), ()),
        ("swin-tiny-coco-instance", 368_750, (1024, 1024), (327_778, 355_092)),
        ("swin-large-coco-panoptic", 737_500, (1024, 1024), (655_556, 710_184)),
    ],
)
def test_what_differs_between_data_sets(name, steps, size, milestones):
    ours = recipe(name)
    assert ours.train.steps == steps
    assert ours.augmentation.size == size
    drops = tuple(round(part * steps) for part in ours.train.optimizer.milestones)
    assert drops == pytest.approx(milestones, abs=2)


def test_unknown_recipes_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="swin-tiny-coco-instance"):
        recipe("swin-tiny-coco-instances")
    with pytest.raises(FileNotFoundError):
        recipe(str(tmp_path / "none.json"))
    path = tmp_path / "wrong.json"
    values = to_plain(recipe("streets"))
    path.write_text(json.dumps(values | {"batchsize": 2}))
    with pytest.raises(ValueError, match=r"wrong\.json has no field batchsize"):
        recipe(str(path))
    values["train"]["steps"] = "many"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"train\.steps has the value 'many'"):
        recipe(str(path))
