"""Batches to train on: the same whatever reads them; resumed, shared, packed and unpacked."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.datasets.published.cityscapes import cityscapes_dataset
from m2f_jax.labels import CITYSCAPES, things
from m2f_jax.streets import write_streets
from m2f_jax.training.augment import Augmentation, RandomCrop
from m2f_jax.training.batch import OVERLAPS, TrainBatch, pack, stack, unpack

pytest.importorskip("grain", reason="needs grain (pip install m2f-jax[train])")
from m2f_jax.training.data import DataConfig, batches, epoch_order

SIZE = (48, 64)
AUGMENTATION = Augmentation(
    size=SIZE, crop=RandomCrop(shortest_edges=(64, 90, 128), longest_edge=512)
)
CONFIG = DataConfig(augmentation=AUGMENTATION, batch_size=4, max_segments=6, seed=5)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streets")
    write_streets(folder, 6, (128, 256), seed=0, split="train", workers=2)  # unchecked, so faster
    return cityscapes_dataset(folder, "train", "instance")


class Numbered:
    """Tiny images, each of its own color, each with one segment of a label of its own."""

    labels = things(CITYSCAPES)
    task = "instance"

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        regions = np.ones((64, 64), np.int32)
        labels = np.array([index], np.int32)
        image = np.full((64, 64, 3), index, np.uint8)
        return Example(image, Segments(regions, np.array([[False, True]]), labels))

    def check(self, index):
        del index
        return np.ones(len(self.labels), int)


def take(examples, count, config=CONFIG, **settings):
    with batches(examples, config, **settings) as iterator:
        return [next(iterator) for _ in range(count)]


def assert_same(batch, other):
    for name, array, theirs in zip(TrainBatch._fields, batch, other, strict=True):
        np.testing.assert_array_equal(array, theirs, name)
        assert array.dtype == theirs.dtype


def differ(batch, other):
    return not np.array_equal(batch.pixel_values, other.pixel_values)


def test_batches_have_the_declared_shapes(streets):
    [batch] = take(streets, 1)
    shapes = {name: (array.dtype.name, array.shape) for name, array in batch._asdict().items()}
    assert shapes == {
        "pixel_values": ("uint8", (4, *SIZE, 3)),
        "regions": ("uint16", (4, *SIZE)),
        "members": ("bool", (4, 6, 6 + 1 + OVERLAPS)),
        "labels": ("int32", (4, 6)),
        "valid": ("bool", (4, 6)),
        "left_out": ("int32", (4,)),
    }
    assert batch.valid.any()


def test_threads_change_nothing(streets):
    for one, other in zip(take(streets, 5, threads=1), take(streets, 5, threads=7), strict=True):
        assert_same(one, other)


@pytest.mark.slow
def test_worker_processes_change_nothing(streets):
    workers = take(streets, 5, threads=1, workers=2)
    for one, other in zip(take(streets, 5, threads=1), workers, strict=True):
        assert_same(one, other)


@pytest.mark.slow
def test_worker_processes_have_the_limit_of_pixels(streets, monkeypatch):
    monkeypatch.setattr("m2f_jax.pixel_limit._max_pixels", 1000)
    with pytest.raises(ValueError, match=r"has 256 x 128 = 32768 pixels, and 1000 are allowed"):
        take(streets, 1, threads=1, workers=1)


def test_seeds_and_epochs_change_everything(streets):
    first, *_, second_epoch = take(streets, 4, threads=2)
    [other] = take(streets, 1, DataConfig(**{**vars(CONFIG), "seed": 6}), threads=2)
    assert differ(first, other)
    assert differ(first, second_epoch)


def test_each_epoch_has_all_images_in_an_order_of_its_own():
    numbers = [batch.labels[:, 0] for batch in take(Numbered(10), 15)]
    epochs = np.concatenate(numbers).reshape(6, 10)
    assert (np.sort(epochs) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 6
    np.testing.assert_array_equal(epochs[2], epoch_order(5, 2, 10))


def test_it_goes_on_in_the_middle_of_an_epoch(streets):
    whole = take(streets, 5, threads=2)
    with batches(streets, CONFIG, threads=2) as iterator:
        for _ in range(2):
            next(iterator)
        state = iterator.get_state()
        assert json.loads(state) == {"step": 2, "seed": 5, "batch_size": 4, "images": 6}
        next(iterator)
        iterator.set_state(state)
        assert_same(next(iterator), whole[2])
    with batches(streets, CONFIG, threads=1, process_index=1, process_count=2) as iterator:
        iterator.set_state(state)
        for batch in whole[2:]:
            assert_same(next(iterator), TrainBatch(*(array[2:] for array in batch)))
        assert json.loads(iterator.get_state())["step"] == 5


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_each_batch(streets, processes):
    whole = take(streets, 3, threads=2)
    parts = [
        take(streets, 3, process_index=index, process_count=processes, threads=2)
        for index in range(processes)
    ]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert all(len(share.labels) == 4 // processes for share in shares)
        assert_same(batch, TrainBatch(*map(np.concatenate, zip(*shares, strict=True))))


def test_states_of_other_data_are_refused(streets):
    with batches(streets, CONFIG, threads=1) as iterator:
        state = iterator.get_state()
        with pytest.raises(ValueError, match="isn't a place in training data"):
            iterator.set_state(b"[1]")
        assert_same(next(iterator), take(streets, 1)[0])
    other = DataConfig(augmentation=AUGMENTATION, batch_size=2, seed=5)
    with (
        batches(Numbered(7), other, threads=1) as iterator,
        pytest.raises(ValueError, match="batch_size 4 then, 2 now, images 6 then, 7 now"),
    ):
        iterator.set_state(state)
    with pytest.raises(ValueError, match="were closed"):
        next(iterator)


def test_impossible_settings_are_refused(streets):
    with pytest.raises(ValueError, match="process 0 of 3 can't have its part of batches of 4"):
        batches(streets, CONFIG, process_count=3)
    with pytest.raises(ValueError, match="process 2 of 2"):
        batches(streets, CONFIG, process_index=2, process_count=2)
    with pytest.raises(ValueError, match="no images"):
        batches(Numbered(0), CONFIG)
    with pytest.raises(ValueError, match="batch_size must be from 1 to 1000000, not 0"):
        DataConfig(augmentation=AUGMENTATION, batch_size=0)
    with pytest.raises(ValueError, match="seed must be from 0 to 4294967295, not -1"):
        DataConfig(augmentation=AUGMENTATION, seed=-1)


def test_a_file_that_breaks_later_is_named(tmp_path):
    write_streets(tmp_path, 1, (128, 256), seed=0, split="train")
    examples = cityscapes_dataset(tmp_path, "train", "instance")
    path = examples.images[0].image
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=f"{path.name} can't be read as an image"):
        take(examples, 1)


# --- packing ---


def masks_example(masks, labels):
    size = masks.shape[1:]
    segments = Segments.from_masks(masks, np.array(labels, np.int32), size)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Example(image, segments)


@pytest.fixture
def masks():
    """Overlapping masks of falling area, the fourth one empty."""
    masks = np.zeros((6, 20, 30), bool)
    masks[0, :15, :25] = masks[1, 5:, 10:] = masks[2, 2:12, 3:20] = masks[4, 4:7, 5:9] = True
    masks[5, 19, 29] = True
    return masks


def test_unpacked_masks_are_the_masks(masks):
    example = masks_example(masks, [3, 1, 4, 1, 5, 2])
    pixels, targets = jax.jit(unpack)(stack([pack(example, 8, keep_empty=False)]))
    kept = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(targets.valid[0], np.arange(8) < 5)
    np.testing.assert_array_equal(targets.labels[0, :5], [3, 1, 4, 5, 2])
    np.testing.assert_array_equal(targets.masks[0, :5], masks[kept])
    assert not targets.masks[0, 5:].any()
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    np.testing.assert_allclose(pixels[0], (example.image - np.array(mean)) / std, atol=1e-5)


def test_masks_outside_the_crop_are_kept_on_demand(masks):
    """The fourth has no pixel in the whole image, and the sixth none in the crop."""
    image, (regions, members, labels) = masks_example(masks, [3, 1, 4, 1, 5, 2])
    cropped = Example(image[:19], Segments(regions[:19], members, labels))
    packed = pack(cropped, 8, keep_empty=True)
    _, targets = unpack(stack([packed]))
    np.testing.assert_array_equal(targets.valid[0], np.arange(8) < 5)
    np.testing.assert_array_equal(targets.labels[0, :5], [3, 1, 4, 5, 2])
    np.testing.assert_array_equal(targets.masks[0, :5], masks[[0, 1, 2, 4, 5], :19])
    assert not targets.masks[0, 4].any()
    assert packed.left_out == 0


def test_the_largest_segments_are_kept(masks):
    packed = pack(masks_example(masks[::-1], [2, 5, 1, 4, 1, 3]), 3, keep_empty=False)
    _, targets = unpack(stack([packed]))
    assert packed.left_out == 2
    np.testing.assert_array_equal(targets.labels[0], [4, 1, 3])
    np.testing.assert_array_equal(targets.masks[0], masks[[2, 1, 0]])


def test_an_image_without_segments():
    example = masks_example(np.zeros((0, 4, 5), bool), [])
    _, targets = unpack(stack([pack(example, 2, keep_empty=True)]))
    assert not targets.valid.any()
    assert not targets.masks.any()


def test_too_many_overlaps_lose_the_smallest(monkeypatch):
    monkeypatch.setattr("m2f_jax.training.batch.OVERLAPS", 0)
    rng = np.random.default_rng(0)
    masks = rng.random((4, 40, 40)) < 0.5  # 15 regions, and room for 4
    _, targets = unpack(stack([pack(masks_example(masks, [0] * 4), 4, keep_empty=False)]))
    assert not (np.asarray(targets.masks[0]) & ~masks).any()
    assert len(np.unique(np.asarray(targets.masks[0]).reshape(4, -1), axis=1).T) == 5


def test_cropped_segments_are_those_of_the_example(streets):
    """What comes out of the loader is what each step gives by itself."""
    [batch] = take(streets, 1, threads=2)
    order = epoch_order(5, 0, 6)
    for position in range(4):
        rng = np.random.default_rng([5, 1, 0, position])
        image, segments = AUGMENTATION(streets[int(order[position])], rng)
        np.testing.assert_array_equal(batch.pixel_values[position], image)
        areas = segments.masks.sum((1, 2))
        count = min(6, np.count_nonzero(areas))
        assert batch.valid[position].sum() == count
        assert batch.left_out[position] == np.count_nonzero(areas) - count
        masks = batch.members[position][:count][:, batch.regions[position]]
        assert masks.sum() == np.sort(areas)[::-1][:6].sum()


def test_only_the_loader_needs_grain():
    code = (
        "import sys; import m2f_jax.datasets.folder, m2f_jax.training.batch;"
        "sys.exit('grain' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
