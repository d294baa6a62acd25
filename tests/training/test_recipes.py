"""Recipes: the published numbers, and their JSON form."""

import dataclasses
import json

import pytest

from m2f_jax.config import FPNPixelDecoderConfig, MaskFormerConfig, ResNetConfig
from m2f_jax.plain import from_plain, to_plain
from m2f_jax.presets import PRESETS
from m2f_jax.training.augment import LargeScaleJitter
from m2f_jax.training.config import LossConfig, OptimizerConfig, TrainConfig, loss_of
from m2f_jax.training.recipes import fine_tuning, recipe
from tests.conftest import MICRO, ROOT

MASKFORMER = MaskFormerConfig(labels=MICRO.labels, task="semantic")
ON_RESNET = OptimizerConfig(learning_rate=1e-4, backbone_multiplier=0.1, weight_decay=1e-4)
ON_SWIN = OptimizerConfig(
    learning_rate=6e-5,
    backbone_multiplier=1.0,
    weight_decay=0.01,
    warmup_steps=1500,
    warmup_start=1e-6,
)


@pytest.mark.parametrize("name", ["streets", *PRESETS])
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
        ("swin-tiny-youtubevis-2019-instance", 6000, (480, 864), (4000,)),
        ("resnet50-youtubevis-2021-instance", 8000, (480, 864), (5500,)),
        ("swin-large-coco-panoptic", 737_500, (1024, 1024), (655_556, 710_184)),
    ],
)
def test_what_differs_between_data_sets(name, steps, size, milestones):
    ours = recipe(name)
    assert ours.train.steps == steps
    assert ours.augmentation.size == size
    drops = tuple(round(part * steps) for part in ours.train.optimizer.milestones)
    assert drops == pytest.approx(milestones, abs=2)


@pytest.mark.parametrize(
    ("name", "steps", "batch_size", "size", "edges", "optimizer"),
    [
        ("resnet50-ade", 160_000, 16, 512, (256, 1024), ON_RESNET),
        ("swin-tiny-ade", 160_000, 16, 512, (256, 1024), ON_SWIN),
        ("swin-large-ade", 160_000, 16, 640, (320, 1280), ON_SWIN),
        ("resnet101-ade-panoptic", 720_000, 16, 640, (320, 1280), ON_RESNET),
        ("resnet101c-ade20k-full", 200_000, 16, 512, (256, 1024), ON_RESNET),
        ("resnet101c-cityscapes", 90_000, 16, 1024, (512, 2048), ON_RESNET),
        ("resnet50-coco", 554_400, 64, 1333, (480, 800), ON_RESNET),
        ("swin-base-coco", 554_400, 64, 1333, (480, 800), ON_SWIN),
        ("resnet50-coco-stuff", 60_000, 32, 640, (320, 960), ON_RESNET),
        ("resnet50-vistas", 300_000, 16, 1280, (1024, 4096), ON_RESNET),
    ],
)
def test_maskformers_are_trained_as_published(name, steps, batch_size, size, edges, optimizer):
    ours = recipe(f"maskformer-{name}")
    assert (ours.train.steps, ours.batch_size) == (steps, batch_size)
    assert ours.augmentation.size[1] == size
    shortest = ours.augmentation.crop.shortest_edges
    assert (min(shortest), max(shortest)) == edges
    if name.endswith("-coco"):
        [drop] = ours.train.optimizer.milestones
        assert drop * steps == pytest.approx(369_600)
        optimizer = dataclasses.replace(optimizer, milestones=(drop,))
    assert ours.train.optimizer == optimizer
    assert ours.train.loss == loss_of(MASKFORMER)
    assert ours.keep_empty == (ours.train.model.task == "panoptic")


def test_each_kind_of_model_has_its_own_loss_and_optimizer():
    """Also read from a file that says nothing of them."""
    for config in (
        TrainConfig(model=MASKFORMER),
        from_plain(TrainConfig, {"model": to_plain(MASKFORMER)}, "file"),
    ):
        assert config.loss.weights == {"class": 1, "focal": 20, "dice": 1}
        assert config.loss.no_object_weight == 0.1
        assert (config.loss.num_points, config.loss.pixels) == (None, "images")
        assert config.optimizer == ON_SWIN
    on_resnet = dataclasses.replace(MASKFORMER, backbone=ResNetConfig())
    assert TrainConfig(model=on_resnet).optimizer == ON_RESNET
    own = TrainConfig(model=MASKFORMER, loss=LossConfig(), optimizer=OptimizerConfig())
    assert (own.loss, own.optimizer) == (LossConfig(), OptimizerConfig())
    assert TrainConfig(model=MICRO) == dataclasses.replace(own, model=MICRO)
    with pytest.raises(ValueError, match="num_points is 9, but pixels of images are whole masks"):
        dataclasses.replace(loss_of(MASKFORMER), num_points=9)


def test_a_trained_model_is_fine_tuned_at_the_size_that_is_asked_for():
    chosen = fine_tuning(MASKFORMER, steps=200, size=(256, 384))
    assert chosen.train.loss == loss_of(MASKFORMER)
    assert chosen.train.optimizer.learning_rate == 6e-5
    assert (chosen.train.steps, chosen.train.optimizer.warmup_steps) == (200, 10)
    assert chosen.train.optimizer.warmup_start == 0
    assert chosen.augmentation.size == (256, 384)
    assert isinstance(chosen.augmentation.crop, LargeScaleJitter)
    processor = chosen.processor()
    assert (processor.shortest_edge, processor.longest_edge) == (256, 384)
    assert from_plain(type(chosen), to_plain(chosen), "") == chosen


@pytest.mark.parametrize("name", ["swin-tiny-coco-panoptic", "maskformer-swin-tiny-ade", "streets"])
def test_batches_are_those_of_the_recipe(name):
    chosen = recipe(name)
    data = chosen.data(seed=3)
    assert data.seed == 3
    for field in ("augmentation", "batch_size", "max_segments", "keep_empty"):
        assert getattr(data, field) == getattr(chosen, field)


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
