"""The recipes of the published models and of the model in the package, and one to fine-tune any.

Facts from the authors' configuration files; `training.config` has what they share.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.config import (
    Mask2FormerConfig,
    MaskFormerConfig,
    ModelConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.files import read_json
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import CITYSCAPES, Label
from m2f_jax.plain import from_plain
from m2f_jax.presets import Preset, preset
from m2f_jax.presets.published import RESNET101, SWIN_LARGE
from m2f_jax.training.augment import (
    AUGMENTATIONS,
    Augmentation,
    ColorJitter,
    LargeScaleJitter,
    RandomCrop,
    random_crops,
)
from m2f_jax.training.config import LossConfig, OptimizerConfig, TrainConfig, optimizer_of
from m2f_jax.training.data import DataConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a training run but the place of its data.

    Attributes:
        train: model, steps, losses and optimizer.
        augmentation: random changes to images, and the size of a crop.
        batch_size: images per step.
        max_segments: segments per image; of more, the largest are kept.
        keep_empty: whether segments outside the crop stay as empty masks, as in the authors'
            mappers for Cityscapes and for panoptic training.
        keep_empty_images: whether images without any object are learned from; the authors leave
            them out.
        test_size: shortest and longest edge of images when the model is used, in pixels; None for
            their own size.
    """

    train: TrainConfig
    augmentation: Augmentation
    batch_size: Annotated[int, Between(1, 1_000_000)] = 16
    max_segments: Annotated[int, Between(1, 10_000)] = 100
    keep_empty: bool = False
    keep_empty_images: bool = False
    test_size: Annotated[tuple[int, int] | None, Between(1, 65_536)] = None

    def __post_init__(self):
        check_bounds(self)
        if self.test_size is not None and len(self.test_size) != 2:
            raise ValueError(f"Recipe: test_size is two lengths, not {self.test_size}")

    def with_classes(self, labels: Sequence[Label]) -> "Recipe":
        """Returns the recipe for other classes."""
        model = dataclasses.replace(self.train.model, labels=tuple(labels))
        return dataclasses.replace(self, train=dataclasses.replace(self.train, model=model))

    def data(self, seed: int = 0) -> DataConfig:
        """Returns the settings of its batches."""
        return DataConfig(
            augmentation=self.augmentation,
            batch_size=self.batch_size,
            max_segments=self.max_segments,
            keep_empty=self.keep_empty,
            seed=seed,
        )

    def processor(self) -> ImageProcessor:
        """Returns how images are prepared for the model when it is used."""
        shortest, longest = self.test_size or (None, None)
        return dataclasses.replace(
            ImageProcessor.for_model(self.train.model),
            shortest_edge=shortest,
            longest_edge=longest,
        )


def recipe(name: str) -> Recipe:
    """Returns the recipe of a published model or of "streets", or reads one from a file.

    By "swin-large-cityscapes-instance", the authors reached an AP of 43.7 and an AP50 of 71.4. All
    of their scores are in `presets.PRESETS`, and `m2f info NAME` shows them. A file
    ending in .json holds a `Recipe` of your own, such as the `settings` in a run's train.json.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no recipe of this name, or the file holds something else.
    """
    if name.endswith(".json"):
        return from_plain(Recipe, read_json(name), name)
    if name == "streets":
        return STREETS
    published = preset(name)
    if isinstance(published.config, MaskFormerConfig):
        return _of_maskformer(published)
    if isinstance(published.config, VideoMask2FormerConfig):
        return _of_video(published)
    return _of_mask2former(published)


def _of_mask2former(published: Preset) -> Recipe:
    """Returns the authors' settings: batches of 16, and what differs between data sets."""
    config, data_set = published.config, published.data_set
    size = published.shortest_edge, published.longest_edge
    train = TrainConfig(model=config, steps=90_000)
    if data_set == "coco":
        # 50 epochs, of Swin-L 100, with two drops of the learning rate near the end.
        steps = 737_500 if config.backbone == SWIN_LARGE else 368_750
        optimizer = OptimizerConfig(milestones=(0.888889, 0.962963))
        train = dataclasses.replace(train, steps=steps, optimizer=optimizer)
        return Recipe(
            train=train,
            augmentation=AUGMENTATIONS["coco"],
            keep_empty=config.task == "panoptic",
            test_size=size,
        )
    if data_set == "ade":
        short = config.task == "semantic" and config.backbone == RESNET101
        return Recipe(
            train=train if short else dataclasses.replace(train, steps=160_000),
            augmentation=AUGMENTATIONS["ade20k-large" if size[0] == 640 else "ade20k"],
            keep_empty=config.task != "semantic",
            test_size=size,
        )
    if data_set == "mapillary-vistas":
        return Recipe(
            train=dataclasses.replace(train, steps=300_000),
            augmentation=random_crops((1024, 1024), 2048, 4 * 2048),
            keep_empty=config.task == "panoptic",
            test_size=size,
        )
    return Recipe(
        train=train,
        augmentation=AUGMENTATIONS["cityscapes"],
        keep_empty=config.task != "semantic",
        test_size=size,
    )


def _of_video(published: Preset) -> Recipe:
    """Returns the authors' settings: about eight epochs, from a model of COCO's instances."""
    steps, drop = (6000, 4000) if published.data_set == "youtubevis-2019" else (8000, 5500)
    crop = RandomCrop(shortest_edges=(360, 480), longest_edge=1333)
    return Recipe(
        train=TrainConfig(
            model=published.config,
            steps=steps,
            optimizer=OptimizerConfig(milestones=(drop / steps,)),
        ),
        augmentation=Augmentation(size=(480, 864), crop=crop),
        test_size=(published.shortest_edge, published.longest_edge),
    )


def _of_maskformer(published: Preset) -> Recipe:
    """Returns the authors' settings.

    On COCO, images are padded to one size instead of each batch's own.
    """
    config, data_set = published.config, published.data_set
    steps, batch_size, milestones = 160_000, 16, ()
    augmentation = AUGMENTATIONS["ade20k-large" if published.shortest_edge == 640 else "ade20k"]
    if data_set == "cityscapes":
        steps, augmentation = 90_000, AUGMENTATIONS["cityscapes"]
    elif data_set == "coco":
        steps, batch_size, milestones = 554_400, 64, (2 / 3,)
        augmentation = AUGMENTATIONS["coco-maskformer"]
    elif data_set == "coco-stuff":
        steps, batch_size, augmentation = 60_000, 32, AUGMENTATIONS["coco-stuff"]
    elif data_set == "mapillary-vistas":
        steps, augmentation = 300_000, random_crops((1280, 1280), 2048, 4 * 2048)
    elif data_set == "ade-full":
        steps = 200_000
    elif config.task == "panoptic":
        steps = 720_000
    optimizer = dataclasses.replace(optimizer_of(config), milestones=milestones)
    return Recipe(
        train=TrainConfig(model=config, steps=steps, optimizer=optimizer),
        augmentation=augmentation,
        batch_size=batch_size,
        keep_empty=config.task == "panoptic",
        test_size=(published.shortest_edge, published.longest_edge),
    )


def fine_tuning(
    model: ModelConfig, *, steps: int = 2000, size: tuple[int, int] = (512, 512)
) -> Recipe:
    """Returns a recipe by which a trained model learns other classes from some hundred images.

    The loss and the optimizer are those of its kind of model, with batches of 4. Images are resized
    to 0.5 to 2 times what fits into a crop, and to what fits when the model is used.

    Args:
        model: the trained model's config with the classes to learn.
        steps: their number; the learning rate rises over the first twentieth.
        size: the crops' height and width in pixels.
    """
    optimizer = dataclasses.replace(optimizer_of(model), warmup_steps=steps // 20, warmup_start=0.0)
    return Recipe(
        train=TrainConfig(model=model, steps=steps, optimizer=optimizer),
        augmentation=Augmentation(
            size=size, crop=LargeScaleJitter(scales=(0.5, 2.0)), colours=ColorJitter()
        ),
        batch_size=4,
        test_size=(min(size), max(size)),
    )


# 3.1 million parameters, so that two cores can train it; it knows only what `m2f streets` draws.
STREETS = Recipe(
    train=TrainConfig(
        model=Mask2FormerConfig(
            labels=CITYSCAPES,
            task="panoptic",
            backbone=SwinConfig(
                embed_dim=32,
                depths=(2, 2, 4, 2),
                num_heads=(1, 2, 4, 8),
                window_size=8,
                drop_path_rate=0.0,
            ),
            pixel_decoder=PixelDecoderConfig(
                dim=64, mask_dim=64, num_layers=2, num_heads=4, ffn_dim=256
            ),
            decoder=TransformerDecoderConfig(
                dim=64, num_layers=3, num_heads=4, ffn_dim=256, num_queries=60
            ),
        ),
        steps=12_000,
        loss=LossConfig(num_points=None),  # on maps this small, all pixels cost less than points
        optimizer=OptimizerConfig(
            learning_rate=5e-4, backbone_multiplier=1.0, clip_norm=1.0, warmup_steps=100
        ),
        average_decay=0.999,
    ),
    augmentation=Augmentation(
        size=(128, 256),
        crop=RandomCrop(shortest_edges=tuple(range(192, 513, 32)), longest_edge=1024),
        colours=ColorJitter(),
    ),
    batch_size=4,
    max_segments=40,
    test_size=(256, 1024),
)
