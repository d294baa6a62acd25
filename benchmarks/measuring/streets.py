"""Streets to train on, the recipe that small models are compared by, and their scores."""

import dataclasses
from pathlib import Path

from m2f_jax.files import read_json
from m2f_jax.training.augment import RandomCrop
from m2f_jax.training.recipes import STREETS, Recipe
from measuring.processes import m2f

CROP = STREETS.augmentation.size
NUM_POINTS = 512  # at which losses are taken


def base_recipe(size: tuple[int, int]) -> Recipe:
    """Returns the recipe that all variants start from: that of the package's model.

    Its losses are taken at points, as Mask2Former's, instead of on whole masks; and there is no
    average of parameters, which would take most of a short run to forget the first ones.
    """
    scale = size[0] / CROP[0]
    crop = STREETS.augmentation.crop
    assert isinstance(crop, RandomCrop)
    scaled = RandomCrop(
        shortest_edges=tuple(round(scale * edge) for edge in crop.shortest_edges),
        longest_edge=round(scale * crop.longest_edge),
    )
    loss = dataclasses.replace(STREETS.train.loss, num_points=NUM_POINTS)
    return dataclasses.replace(
        STREETS,
        train=dataclasses.replace(STREETS.train, loss=loss, average_decay=0.0),
        augmentation=dataclasses.replace(STREETS.augmentation, size=size, crop=scaled),
        test_size=(2 * size[0], 8 * size[0]),
    )


def find_streets(root: Path, images: tuple[int, int], size: tuple[int, int]):
    """Draws streets of twice the crops' size, where there is nothing yet.

    An interrupted drawing goes on.

    Args:
        root: the Cityscapes tree.
        images: the numbers of images to learn from and to evaluate on.
        size: height and width of the crops.
    """
    if root.exists():
        return
    unfinished = root.with_name(f"{root.name}.unfinished")
    height, width = size
    for seed, (split, count) in enumerate(zip(("train", "val"), images, strict=True), 1):
        drawn = f"{2 * height}x{2 * width}"
        settings = ("--images", count, "--size", drawn, "--seed", seed, "--split", split)
        m2f("streets", unfinished, *settings)
    unfinished.rename(root)


def score(model: Path, data: Path, task: str) -> dict[str, float]:
    """Returns the scores of `m2f eval` on the images that nothing was learnt from."""
    out = model.parent / task
    m2f("eval", "cityscapes", data, "--model", model, "--task", task, "--out", out)
    return read_json(out / "results.json")["scores"]
