"""Tiles: a picture whose segmentation is known is segmented in tiles as it is at once."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage

from m2f_jax.inference.prefetching import Pending, run_pipeline
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.inference.tiling import Tile, TiledSegmenter, Window, tiles_of


@dataclasses.dataclass
class Blobs:
    """Stands for a segmenter: every patch of a color is an instance of the class of that number."""

    score: float = 0.8
    config = SimpleNamespace(task="instance")
    capacity = 2
    largest = 0

    def prepare(self, pixels):
        self.largest = max(self.largest, pixels.shape[0], pixels.shape[1])
        return SimpleNamespace(pixels=pixels, bucket=None)

    def submit(self, batch, task, *, threshold=None):
        assert len(batch) <= self.capacity
        return [Pending(lambda x=x: self.found(x.pixels, task, threshold)) for x in batch]

    def found(self, pixels, task, threshold):
        colors = pixels[..., 0].astype(np.int32)
        if task == "semantic":
            return colors
        masks, labels = [], []
        for color in np.unique(colors[colors > 0]):
            patches, count = scipy.ndimage.label(colors == color)
            masks += [patches == k for k in range(1, count + 1)]
            labels += [int(color)] * count
        shares = [mask.mean() for mask in masks]  # so that scores differ between tiles
        scores = np.array([self.score + 0.1 * share for share in shares], np.float32)
        kept = scores >= (threshold or 0)
        return InstanceSegmentation.from_masks(
            scores=scores[kept],
            labels=np.array(labels, np.int32)[kept],
            masks=np.array(masks, bool).reshape(-1, *colors.shape)[kept],
            queries=np.arange(len(masks), dtype=np.int32)[kept],
        )


def discs(height, width, count, seed=0):
    """A picture of discs of three colors, some of which touch; none is of the color of another."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((height, width, 3), np.uint8)
    for _ in range(count):
        inside = np.hypot(y - rng.uniform(0, height), x - rng.uniform(0, width)) < rng.uniform(2, 9)
        picture[inside] = rng.integers(1, 4)
    return picture


def as_set(found):
    """Class and pixels of all instances."""
    return {
        (int(label), mask.tobytes()) for label, mask in zip(found.labels, found.masks, strict=True)
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(100, 150), (70, 40), (33, 300)])
def test_instances_on_seams_are_joined(size, seed):
    picture = discs(*size, count=size[0] * size[1] // 400, seed=seed)
    blobs = Blobs()
    found = TiledSegmenter(blobs, tile=64, overlap=32)(picture)
    whole = blobs.found(picture, "instance", None)
    assert as_set(found) == as_set(whole)
    assert len(found) == len(whole) > 3
    assert (np.diff(found.scores) <= 0).all()
    assert found.size == size
    assert blobs.largest <= 64


def test_an_instance_has_the_best_score_of_its_parts():
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[10:20, 30:90] = 2
    found = TiledSegmenter(Blobs(0.5), tile=40, overlap=10)(picture)
    [score] = found.scores
    middle = picture[:, 30:70, 0]  # the tile that it fills the most of
    assert score == pytest.approx(0.5 + 0.1 * (middle > 0).mean())
    assert len(TiledSegmenter(Blobs(0.5), 40, 10)(picture, threshold=0.5)) == 1
    assert len(TiledSegmenter(Blobs(0.5), 40, 10)(picture, threshold=0.6)) == 0
    assert found.boxes.tolist() == [[30, 10, 90, 20]]


def test_a_weaker_part_joins_an_instance():
    picture = np.zeros((40, 70, 3), np.uint8)
    picture[:, 28:] = 1  # scores 0.53 on the left, 0.6 on the right
    found = TiledSegmenter(Blobs(0.5), tile=40, overlap=10)(picture, threshold=0.55)
    assert found.boxes.tolist() == [[28, 0, 70, 40]]
    assert found.scores.tolist() == pytest.approx([0.6])


def test_parts_that_do_not_agree_stay_apart():
    """One tile sees other things in the overlap than the next one; fragments there are left out."""

    class Odd(Blobs):
        def found(self, pixels, task, threshold):
            left = pixels[0, 0, 1] == 0
            changed = pixels.copy()
            if left:
                changed[:, 30:, 0] = 0
                changed[5:9, 36:39, 0] = 1  # a fragment of what the other tile shows whole
            return super().found(changed, task, threshold)

    picture = np.zeros((40, 70, 3), np.uint8)
    picture[:, 10:, 1] = 1
    picture[5:20, 10:60, 0] = 1
    found = TiledSegmenter(Odd(), tile=40, overlap=10)(picture)
    assert sorted(found.boxes.tolist()) == [[10, 5, 30, 20], [30, 5, 60, 20]]


def test_two_of_a_kind_in_one_place_stay_two():
    """What a model finds twice at once it finds twice in tiles."""

    class Twice(Blobs):
        def found(self, pixels, task, threshold):
            once = super().found(pixels, task, threshold)
            return once.select(np.repeat(np.arange(len(once)), 2))

    picture = np.zeros((40, 70, 3), np.uint8)
    picture[5:20, 20:60, 0] = 1
    assert len(TiledSegmenter(Twice(), tile=40, overlap=10)(picture)) == 2


def test_semantic_pixels_come_from_the_nearest_tile():
    class Position(Blobs):
        def found(self, pixels, *_):
            height, width, _ = pixels.shape
            y, x = np.mgrid[:height, :width]
            return np.maximum(abs(2 * y + 1 - height), abs(2 * x + 1 - width)).astype(np.int32)

    picture = discs(90, 150, 40)
    whole = TiledSegmenter(Blobs(), tile=64, overlap=16)(picture, "semantic")
    np.testing.assert_array_equal(whole, picture[..., 0])
    farthest = TiledSegmenter(Position(), tile=64, overlap=16)(picture, "semantic")
    assert farthest[32:58, 32:118].max() <= 64 - 16  # twice the distance from the tile's centre
    assert farthest[0, 0] == 63


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 64), (200, 133), (5, 640)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 16), (64, 32), (3, 1)])
def test_tiles_cover_an_image_and_overlap_enough(size, tile, overlap):
    tiles = tiles_of(size, tile, overlap)
    covered = np.zeros(size, int)
    for part in tiles:
        covered[part.nearest.slices] += 1
        assert part.nearest & part.window == part.nearest
        sides = np.subtract(part.window[2:], part.window[:2]).tolist()
        assert sides == [min(side, tile) for side in size]
    assert (covered == 1).all()
    by_start = sorted({part.window.left for part in tiles})
    assert all(b - a <= tile - overlap for a, b in itertools.pairwise(by_start))


def test_an_image_of_one_tile_is_that_tile():
    assert tiles_of((30, 40), 64, 16) == [Tile(Window(0, 0, 30, 40), Window(0, 0, 30, 40))]
    picture = discs(60, 64, 12)
    found = TiledSegmenter(Blobs(), tile=64, overlap=16)(picture)
    assert as_set(found) == as_set(Blobs().found(picture, "instance", None))


def test_masks_are_made_one_at_a_time():
    """An image of 400 million pixels with two discs takes no array of that size."""
    found = TiledSegmenter(Blobs(), tile=64, overlap=16)(discs(100, 150, 12))
    huge = dataclasses.replace(found.packed_masks, size=(20_000, 20_000))
    packed = dataclasses.replace(found, size=(20_000, 20_000), packed_masks=huge)
    assert len(packed.packed_masks) == len(found)
    np.testing.assert_array_equal(packed.boxes, found.boxes)
    np.testing.assert_array_equal(packed.areas, found.masks.sum(axis=(1, 2)))


def test_what_cannot_be_put_together_is_refused():
    with pytest.raises(ValueError, match="panoptic segmentations aren't put together"):
        TiledSegmenter(Blobs())(np.zeros((4, 4, 3), np.uint8), "panoptic")
    for tile, overlap in [(64, 33), (64, -1), (0, 0)]:
        with pytest.raises(ValueError, match=f"tiles of {tile} pixels can't overlap by {overlap}"):
            TiledSegmenter(Blobs(), tile, overlap)


def test_it_stands_for_a_segmenter_in_a_pipeline():
    pictures = [discs(80, 90, 20, seed) for seed in range(3)]
    segmenter = TiledSegmenter(Blobs(), tile=64, overlap=16)
    outcomes = run_pipeline(
        segmenter,
        "instance",
        pictures,
        lambda picture: (segmenter.prepare(picture), None),
        lambda _picture, _none, found: as_set(found),
        threshold=0.5,
    )
    wanted = [as_set(Blobs().found(picture, "instance", None)) for picture in pictures]
    assert [found for _, found in outcomes] == wanted
