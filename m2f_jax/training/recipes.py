"""The recipes by which the published models were trained, and that of the model in the package.

Facts from the authors' configuration files: batches of 16, AdamW with a learning rate of 1e-4, and
what differs between data sets.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)
from m2f_jax.files import read_json
from m2f_jax.labels import CITYSCAPES
from m2f_jax.plain import from_plain
from m2f_jax.presets import PRESETS, RESNET101, SWIN_LARGE, preset
from m2f_jax.training.augment import (
    AUGMENTATIONS,
    Augmentation,
    ColorJitter,
    RandomCrop,
    random_crops,
)
from m2f_jax.training.config import LossConfig, OptimizerConfig, TrainConfig


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


def recipe(name: str) -> Recipe:
    """Returns the recipe of a published model or of "streets", or reads one from a file.

    "swin-large-cityscapes-instance" reaches an AP of 43.7 and an AP50 of 71.4; every model's scores
    are in `presets.PRESETS`, and `m2f info NAME` shows them. A file ending in .json holds a
    `Recipe` of your own, such as the `settings` in the train.json of a training run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no recipe of this name, or the file holds something else.
    """
    if name.endswith(".json"):
        return from_plain(Recipe, read_json(name), name)
    if name == "streets":
        return STREETS
    published = preset(name)
    size = published.shortest_edge, published.longest_edge
    config = published.config
    if not isinstance(config, Mask2FormerConfig):
        raise ValueError(f"there is no recipe for {name}; take that of a Mask2Former")
    train = TrainConfig(model=config, steps=90_000)
    if "-coco-" in name:
        # 50 epochs, of Swin-L 100, with two drops of the learning rate near the end.
        steps = 737_500 if config.backbone == SWIN_LARGE else 368_750
        optimizer = OptimizerConfig(milestones=(0.888889, 0.962963), warmup_steps=10)
        train = dataclasses.replace(train, steps=steps, optimizer=optimizer)
        return Recipe(
            train=train,
            augmentation=AUGMENTATIONS["coco"],
            keep_empty=config.task == "panoptic",
            test_size=size,
        )
    if "-ade-" in name:
        short = config.task == "semantic" and config.backbone == RESNET101
        return Recipe(
            train=train if short else dataclasses.replace(train, steps=160_000),
            augmentation=AUGMENTATIONS["ade20k-large" if size[0] == 640 else "ade20k"],
            keep_empty=config.task != "semantic",
            test_size=size,
        )
    if "-mapillary-vistas-" in name:
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


# 3.2 million parameters, so that two cores can train it; it knows only what `m2f streets` draws.
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
        loss=LossConfig(num_points=None),  # of maps this small, all pixels cost less
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
RECIPES = (
    "streets",
    *(name for name, x in PRESETS.items() if isinstance(x.config, Mask2FormerConfig)),
)
