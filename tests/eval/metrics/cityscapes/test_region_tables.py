import jax
import jax.numpy as jnp
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from m2f_jax.eval.metrics.cityscapes.device_tables import count_on_device
from m2f_jax.eval.metrics.cityscapes.region_tables import Regions, count_masks, count_rles

from m2f_jax.inference import postprocess
from m2f_jax.inference.upsampling import canvas_size, plan_upsampling
from m2f_jax.masks.rle import encode_rle
from m2f_jax.structures import ImageSize

SIZES = [(1, 1), (3, 5), (7, 16), (16, 9), (40, 64), (33, 71)]


def random_scene(rng, size, num_masks=6, num_values=5):
    """A patchy map of known ids, and masks of all kinds: blobs, noise, empty, full, corners."""
    height, width = size
    values = np.array([-1, 0, 7, 24, 26, 24000, 26001, 29001, 33012])[:num_values]
    coarse = rng.choice(values, size=(-(-height // 4), -(-width // 3)))
    ids = coarse.repeat(4, axis=0).repeat(3, axis=1)[:height, :width].astype(np.int32)
    masks = rng.random((num_masks, height, width)) < 0.3
    masks[0] = False
    masks[1] = True
    masks[2] = False
    masks[2, -1, -1] = True
    masks[3:] &= (rng.random((height, 1)) < 0.5) & (rng.random(width) < 0.7)
    return ids, masks


def expected_table(ids, masks):
    return np.stack([[(mask & (ids == id_)).sum() for id_ in np.unique(ids)] for mask in masks])


def to_columns(table, regions):
    return np.asarray(table)[:, : len(regions)]


@pytest.mark.parametrize("size", SIZES)
def test_regions_are_those_of_the_image(size):
    ids, _ = random_scene(np.random.default_rng(0), size)
    regions = Regions.of(ids)
    values, areas = np.unique(ids, return_counts=True)
    np.testing.assert_array_equal(regions.ids, values)
    np.testing.assert_array_equal(regions.areas, areas)
    np.testing.assert_array_equal(values[regions.index_map(size)], ids)
    canvas = regions.index_map((size[0] + 3, size[1] + 2))
    assert canvas.dtype == np.uint8
    np.testing.assert_array_equal(canvas[: size[0], : size[1]], regions.index_map(size))
    assert (canvas[size[0] :] == len(regions)).all()
    assert (canvas[:, size[1] :] == len(regions)).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, np.uint32])
def test_any_integer_type_will_do(dtype):
    ids = np.array([[0, 26000], [26000, 33999]])
    np.testing.assert_array_equal(Regions.of(ids.astype(dtype)).ids, [0, 26000, 33999])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_every_route_counts_the_same_pixels(size, seed):
    ids, masks = random_scene(np.random.default_rng(seed), size, num_values=3 * seed + 3)
    regions = Regions.of(ids)
    want, areas = expected_table(ids, masks), masks.sum(axis=(1, 2))
    uncompressed = []
    for mask in masks:
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        counts = np.diff([0, *changes, flat.size]).tolist()
        uncompressed.append({"size": list(size), "counts": [0, *counts] if flat[0] else counts})
    packed = jnp.packbits(jnp.asarray(masks), axis=-1)
    byte_map = regions.index_map((size[0], packed.shape[2] * 8))
    mapped = jnp.asarray(regions.index_map(size))
    for counts in (
        count_masks(masks, regions),
        count_masks(np.asfortranarray(masks), regions),
        count_rles([encode_rle(mask) for mask in masks], regions),
        count_rles([coco_mask.encode(np.asfortranarray(mask)) for mask in masks], regions),
        count_rles(uncompressed, regions),
        count_on_device(jnp.asarray(masks), mapped, num_columns=16),
        count_on_device(packed, jnp.asarray(byte_map), num_columns=16),
    ):
        np.testing.assert_array_equal(to_columns(counts.table, regions), want)
        np.testing.assert_array_equal(counts.areas, areas)


def test_no_predictions():
    regions = Regions.of(np.full((4, 6), 7))
    for counts in (count_masks(np.zeros((0, 4, 6), bool), regions), count_rles([], regions)):
        assert counts.table.shape == (0, 1)
        assert counts.areas.shape == (0,)


def test_more_regions_than_a_byte_counts():
    ids = np.arange(300).reshape(15, 20) + 26000
    regions = Regions.of(ids)
    masks = np.random.default_rng(0).random((2, 15, 20)) < 0.5
    indices = regions.index_map((16, 24))
    assert indices.dtype == np.int32
    assert regions.num_columns == 320
    packed = np.zeros((2, 16, 3), np.uint8)
    packed[:, :15] = np.packbits(masks, axis=-1)
    counts = count_on_device(jnp.asarray(packed), jnp.asarray(indices), num_columns=320)
    np.testing.assert_array_equal(to_columns(counts.table, regions), expected_table(ids, masks))


def test_one_compilation_serves_images_with_other_regions():
    masks = jnp.ones((2, 6, 10), bool)
    compiled = count_on_device._cache_size()
    for num_regions in (1, 5, 60):
        regions = Regions.of(np.arange(60).reshape(6, 10) % num_regions + 26000)
        region_map = jnp.asarray(regions.index_map((6, 10)))
        counts = count_on_device(masks, region_map, num_columns=regions.num_columns)
        assert to_columns(counts.table, regions).tolist() == [regions.areas.tolist()] * 2
    assert count_on_device._cache_size() == compiled + 1


def test_masks_of_the_pipeline_are_counted_where_they_are():
    rng = np.random.default_rng(0)
    size = (90, 150)  # the canvas is 128 x 256
    ids, _ = random_scene(rng, size)
    regions = Regions.of(ids)
    way = plan_upsampling((24, 40), ImageSize((96, 160), size, size), size)
    found = postprocess.instances(
        jnp.asarray(rng.normal(size=(5, 9)), jnp.float32),
        jnp.asarray(rng.normal(size=(5, 24, 40)), jnp.float32),
        way,
        jnp.float32(0),
        top_k=7,
    )
    region_map = jnp.asarray(regions.index_map(canvas_size(size)))
    counts = count_on_device(found.packed_masks, region_map, num_columns=regions.num_columns)
    assert isinstance(counts.table, jax.Array)
    masks = np.unpackbits(np.asarray(found.packed_masks)[:, :90], axis=-1, count=150).view(bool)
    assert masks.any()
    np.testing.assert_array_equal(to_columns(counts.table, regions), expected_table(ids, masks))
    np.testing.assert_array_equal(counts.areas, masks.sum(axis=(1, 2)))


def test_runs_cross_columns_and_large_numbers_are_decoded():
    mask = np.ones((300, 400), bool)  # runs of 120 000 pixels, down columns and on to the next
    mask[0, 0] = mask[170:, 200] = mask[:20, 201] = False
    ids = np.zeros((300, 400), np.int32)
    ids[:, 200:] = 26001
    counts = count_rles([encode_rle(mask), encode_rle(~mask)], Regions.of(ids))
    np.testing.assert_array_equal(counts.table, expected_table(ids, np.stack([mask, ~mask])))


def test_instance_ids_that_are_none():
    with pytest.raises(ValueError, match=r"\[H, W\], not \[2, 3, 4\]"):
        Regions.of(np.zeros((2, 3, 4), int))
    with pytest.raises(ValueError, match="integers, not float32"):
        Regions.of(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"\[34, 255, 34000\], which no Cityscapes label"):
        Regions.of(np.array([[7, 34, 255], [26000, 34000, -1]]))
    with pytest.raises(ValueError, match=r"hold \[-2\]"):
        Regions.of(np.array([[-2]]))


def test_masks_that_are_none():
    regions = Regions.of(np.zeros((4, 6), int))
    with pytest.raises(ValueError, match="masks must be bool, not uint8"):
        count_masks(np.zeros((1, 4, 6), np.uint8), regions)
    with pytest.raises(ValueError, match=r"\[P, 4, 6\], as large as the instance ids, not \[1, 6"):
        count_masks(np.zeros((1, 6, 4), bool), regions)
    with pytest.raises(ValueError, match=r"\[P, 4, 6\]"):
        count_masks(np.zeros((4, 6), bool), regions)


def test_encodings_that_are_none():
    regions = Regions.of(np.zeros((4, 6), int))
    good = encode_rle(np.eye(4, 6) > 0)
    for rle, message in (
        (np.zeros((4, 6), bool), "must be a run-length encoding"),
        ({**good, "size": [6, 4]}, r"a mask's size is \[6, 4\], the image's \[4, 6\]"),
        ({**good, "counts": good["counts"][:-1]}, "add up to 16 pixels, the image has 4 x 6"),
    ):
        with pytest.raises(ValueError, match=message):
            count_rles([good, rle, good], regions)


def test_a_map_of_another_canvas_is_refused():
    with pytest.raises(ValueError, match="the masks are 8 x 16, and the region map 8 x 10"):
        count_on_device(
            jnp.zeros((1, 8, 2), jnp.uint8), jnp.zeros((8, 10), jnp.uint8), num_columns=8
        )
