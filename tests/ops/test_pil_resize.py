"""The device's resizing of 8-bit images is PIL's, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from m2f_jax.inference.preprocess import pad, resize
from m2f_jax.ops.pil_resize import FRACTION_BITS, filter_taps, resize_as_pil

pytestmark = pytest.mark.optimized

SIZES = [  # up, down, both at once, one axis alone, by odd factors, from and to one pixel
    ((30, 47), (60, 94)),
    ((60, 94), (30, 47)),
    ((61, 97), (37, 131)),
    ((120, 50), (80, 33)),  # tall
    ((33, 64), (33, 50)),
    ((33, 64), (70, 64)),
    ((256, 199), (7, 11)),
    ((1, 1), (5, 6)),
    ((9, 8), (1, 1)),
    ((375, 500), (800, 1067)),
    ((511, 1023), (341, 683)),
    ((3, 2000), (1, 40)),  # taps in a loop
    ((2000, 1), (9, 5)),
]


def resized(image, target, padded=None):
    """`image` by the device; the taps are data, as in a Segmenter."""
    rows, columns = map(filter_taps, image.shape[:2], target, padded or target)
    return jax.jit(resize_as_pil)(jnp.asarray(image), rows, columns)


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize("extreme", [False, True])
def test_equals_pil(source, target, extreme):
    rng = np.random.default_rng(sum(source))
    pixels = rng.integers(0, 256, (*source, 3), np.uint8)
    if extreme:  # where sums are the largest, and where they would overflow
        pixels = (pixels > 20).astype(np.uint8) * np.uint8(255)
    ours = resized(pixels, target)
    assert ours.dtype == jnp.uint8
    np.testing.assert_array_equal(ours, resize(pixels, target), strict=True)
    height, width = target
    at_once = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    # The order of PIL's passes depends on its version where the height shrinks the most.
    lost = np.subtract(source, target)
    tolerance = 1 if lost[0] > max(2 * lost[1], 0) else 0
    np.testing.assert_allclose(ours.astype(int), np.asarray(at_once, int), rtol=0, atol=tolerance)


def test_hand_values():
    row = jnp.array([0, 100, 200, 40], jnp.uint8).reshape(1, 4, 1)
    # Halved: weights 3, 9, 9, 3 of 24 about a centre, cut off and made to sum to 1 at the ends.
    half = resized(row, (1, 2)).ravel()
    np.testing.assert_array_equal(half, [round((300 + 200) / 7), round((100 + 600 + 120) / 7)])
    twice = resized(row[:, :2], (1, 4)).ravel()
    np.testing.assert_array_equal(twice, [0, 25, 75, 100])


def test_the_same_size_is_the_same_image():
    image = jnp.arange(24, dtype=jnp.uint8).reshape(4, 3, 2)
    np.testing.assert_array_equal(resized(image, (4, 3)), image)
    assert filter_taps(4, 4, 4).coefficients.shape == (4, 1)  # it costs one reading


def test_what_is_beyond_the_image_is_neither_read_nor_left():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 47, 3), np.uint8)
    rows, columns = filter_taps(30, 41, 64), filter_taps(47, 64, 64)
    want = pad(resize(image, (41, 64)), (64, 64))
    for beyond in (0, 255):
        canvas = np.pad(image, ((0, 10), (0, 3), (0, 0)), constant_values=beyond)
        ours = resize_as_pil(jnp.asarray(canvas), rows, columns)
        np.testing.assert_array_equal(ours, want, strict=True)


def test_taps_sum_to_one_and_lie_inside():
    for source, target in [(1, 5), (5, 1), (7, 13), (13, 7), (3, 1000), (1000, 3)]:
        first, coefficients = filter_taps(source, target, target)
        assert first.min() >= 0
        assert coefficients.min() >= 0
        one = coefficients.sum(axis=1)
        assert np.abs(one - 2**FRACTION_BITS).max() <= coefficients.shape[1] / 2
        beyond = first[:, None] + np.arange(coefficients.shape[1]) >= source
        assert not coefficients[beyond].any()
