"""Sets of images with the official scripts' numbers, and that their order changes none of them."""

import abc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import GOLDEN


class GoldenSets(abc.ABC):
    """The sets of images in a golden file, each evaluated by itself."""

    def __init__(self, name: str):
        self.arrays = dict(np.load(GOLDEN / name))
        self.ends = np.cumsum(self.arrays["sizes"].astype(int).prod(axis=1))

    def __len__(self):
        return int(self.arrays["sets"].max()) + 1

    def images(self, number: int) -> list[int]:
        return np.flatnonzero(self.arrays["sets"] == number).tolist()

    @abc.abstractmethod
    def image(self, image: int) -> tuple[Any, ...]:
        """Returns what a metric is told of an image."""

    @abc.abstractmethod
    def empty(self, number: int) -> Any:
        """Returns a metric for a set, without images."""

    def metric(self, number: int, images: Iterable[int] | None = None) -> Any:
        metric = self.empty(number)
        for image in self.images(number) if images is None else images:
            metric.add(*self.image(image), image=f"{image:05}")
        return metric


def check_order_and_merges(golden: GoldenSets, number: int, folder: Path):
    """Asserts that no order of a set of sixty images, nor merging, changes a bit."""
    images = golden.images(number)
    assert len(images) == 60
    expected = golden.metric(number).result()
    golden.metric(number).save(folder / "expected.npz")
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(images).tolist()
        merged = golden.empty(number)
        for part in (order[:7], order[30:], order[7:30]):
            merged.merge(golden.metric(number, part))
        assert len(merged) == 60
        assert merged.result().to_json() == expected.to_json()
        merged.save(folder / "merged.npz")
        saved = (folder / "expected.npz").read_bytes()
        assert (folder / "merged.npz").read_bytes() == saved


def check_order_without_names(golden: GoldenSets, number: int):
    """Asserts that images without names may come in any order, too."""
    contents = []
    for images in (golden.images(number), golden.images(number)[::-1]):
        metric = golden.empty(number)
        for image in images:
            metric.add(*golden.image(image))
        contents.append(metric.result().to_json())
    assert contents[0] == contents[1]
