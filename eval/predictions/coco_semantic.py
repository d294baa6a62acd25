"""Semantic predictions for data in COCO's format: maps of category ids, or a mask per category."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from m2f_jax.datasets.coco import CocoDataset, CocoImage
from m2f_jax.images import read_ids
from m2f_jax.labels import Label
from m2f_jax.masks.rle import decode_rle

from .coco_columns import Results
from .coco_results import read_results
from .finding import check_png
from .image_names import ImageNames, one_of


@dataclass(frozen=True)
class CategoryMasks:
    """A COCO results file with a mask for each category of an image, as for COCO's stuff.

    Attributes:
        file: the file.
        results: of each image, by its name.
        indices: the class index of each category id.
    """

    file: Path
    results: dict[str, Results]
    indices: dict[int, int]

    @classmethod
    def find(
        cls,
        file: Path,
        items: Sequence[CocoImage],
        name_of: Callable[[Any], str | None],
        categories: Sequence[Label],
    ) -> "CategoryMasks":
        """Reads and checks the file.

        Args:
            file: the file.
            items: the images to score.
            name_of: the name of the image of an id, None where the data set has no such image.
            categories: in the order of the class indices.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as `read_results`, a category is unknown, or an image has no entry.
        """
        results = read_results(file, items, name_of, lambda item: item.size, scored=False)
        indices = {label.id: index for index, label in enumerate(categories)}
        if missing := [item for item in items if not results[item.name].counts]:
            raise ValueError(
                f"{file} has no entry for image {missing[0].id}, and lacks {len(missing)} of "
                f"{len(items)} images in all"
            )
        used = {id_ for found in results.values() for id_ in found.category_ids.tolist()}
        if unknown := sorted(used - set(indices)):
            raise ValueError(
                f"{file}: the category ids {unknown[:10]} aren't among those of the annotations; "
                "class indices have to be turned into ids"
            )
        return cls(file, results, indices)

    def path(self, item: CocoImage) -> Path:
        """Returns the file."""
        del item
        return self.file

    def read(self, item: CocoImage) -> Int32[np.ndarray, "H W"]:
        """Returns one image's class indices; where no category is, the index after the last.

        Raises:
            ValueError: two masks overlap.
        """
        nothing = len(self.indices)
        classes = np.full(item.size, nothing, np.int32)
        found = self.results[item.name]
        columns = found.numbers.tolist(), found.category_ids.tolist(), found.counts
        for number, category_id, counts in zip(*columns, strict=True):
            mask = decode_rle(counts, item.size)
            if (classes[mask] != nothing).any():
                raise ValueError(
                    f"{self.file}: entry {number} overlaps another one of image {item.id}; "
                    "in a semantic segmentation, a pixel has one category"
                )
            classes[mask] = self.indices[category_id]
        return classes


@dataclass(frozen=True)
class CategoryMaps:
    """A folder with one PNG file of category ids per image.

    It has the name of the image's file, or is <id>_pred.png, as `m2f eval --export` writes it.

    Attributes:
        files: by the image's name.
        categories: the categories, in the order of the class indices.
    """

    files: dict[str, Path]
    categories: tuple[Label, ...]

    @classmethod
    def find(cls, folder: Path, items: Sequence[CocoImage], dataset: CocoDataset) -> "CategoryMaps":
        """Finds and checks the files of all images.

        Raises:
            FileNotFoundError: an image has no file.
            ValueError: an image has several, a file is about no image of the data set, or is
                damaged or of another size.
        """
        names = ImageNames(dataset.images)
        exported = {f"{image.name}_pred": image.name for image in dataset.images}
        files: dict[str, Path] = {}
        for file in sorted(folder.rglob("*.png")):
            stem = file.relative_to(folder).as_posix().removesuffix(".png")
            try:
                name = exported.get(stem) or one_of(stem, names.with_file(stem))
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
            if name is None:
                raise ValueError(f"{file} isn't about an image of the ground truth; leave it out")
            if name in files:
                raise ValueError(f"image {name} has two files, {files[name]} and {file}")
            files[name] = file
        if missing := [item for item in items if item.name not in files]:
            stem = Path(missing[0].file_name).with_suffix("")
            raise FileNotFoundError(
                f"{folder} has no {stem}.png, and lacks {len(missing)} of {len(items)} images"
            )
        for item in items:
            check_png(files[item.name], item.size)
        return cls(files, dataset.categories)

    def path(self, item: CocoImage) -> Path:
        """Returns the file of an image."""
        return self.files[item.name]

    def read(self, item: CocoImage) -> Int32[np.ndarray, "H W"]:
        """Returns one image's class indices.

        Raises:
            ValueError: the file isn't a map of ids, or has ids that no category has.
        """
        ids = read_ids(self.files[item.name], "grey")
        known = np.array([label.id for label in self.categories])
        order = np.argsort(known)
        places = order[np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)]
        if unknown := np.unique(ids[known[places] != ids])[:5].tolist():
            raise ValueError(
                f"{self.files[item.name]} has the ids {unknown}, which no category of the ground "
                "truth has; class indices have to be turned into ids"
            )
        return places.astype(np.int32)
