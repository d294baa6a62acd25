"""Images with maps of classes: a pixel is the number of its class, and there are no objects."""

from collections.abc import Sequence
from pathlib import Path

from m2f_jax.datasets.id_maps import IdMapDataset, image_pairs
from m2f_jax.labels import Label


def class_map_dataset(
    images: Path,
    maps: Path,
    *,
    title: str,
    known: Sequence[Label],
    labels: Sequence[Label],
    nothing: int,
    first: int = 0,
    ending: str = ".png",
) -> IdMapDataset:
    """Pairs images with maps of classes, for semantic segmentation.

    Args:
        images: the folder of the images.
        maps: the folder of the maps, grey or with a palette, which have the images' names.
        title: of the data, for reports.
        known: the classes in the order of their numbers.
        labels: the classes to learn; pixels of others count as nothing.
        nothing: the number of pixels without a class.
        first: the number of the first class.
        ending: of the maps' names.

    Raises:
        FileNotFoundError: a folder is missing, an image or a map is alone, or there are none.
        ValueError: two images share a name.
    """
    indices = {label.id: index for index, label in enumerate(labels)}
    return IdMapDataset(
        title=title,
        images=image_pairs(images, maps, ending),
        labels=tuple(labels),
        task="semantic",
        classes={
            nothing: None,
            **{k: indices.get(label.id) for k, label in enumerate(known, first)},
        },
        objects=False,
    )
