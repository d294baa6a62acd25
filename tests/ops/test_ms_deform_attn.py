"""Multi-scale deformable attention in both orders of evaluation, and its hand-written derivative.

Hand-computed cases, a naive loop over the definition in float64, central differences, and what JAX
makes of the plain form.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops.ms_deform_attn import _attend_images, ms_deform_attn
from m2f_jax.ops.sampling import sample

pytestmark = pytest.mark.optimized

SIZES = ((3, 5), (6, 4))
SHAPES = {
    sizes: {"sizes": sizes, **others}
    for sizes, others in {
        SIZES: {},
        ((7, 9),): {"points": 3, "heads": 1},
        ((1, 1), (1, 6), (5, 1)): {"points": 1, "heads": 8, "width": 1, "batch": 1},
    }.items()
}


@pytest.fixture(
    params=["default", "cpu", "tpu"], ids=["all at once", "from tables", "head by head"]
)
def attend(request, monkeypatch):
    """The operator in the order that one platform has, on any; it counts the choices made."""

    def choose(*arrays, **orders):
        function.choices += 1
        return orders[request.param](*arrays)

    @functools.wraps(ms_deform_attn)
    def function(values, sizes, locations, weights):
        return ms_deform_attn(values, sizes, locations, weights)

    function.choices = 0
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    _attend_images.clear_cache()  # an order that was chosen before would be kept
    yield function
    _attend_images.clear_cache()
    assert function.choices > 0


def draw(batch=2, queries=5, heads=2, width=3, points=2, sizes=SIZES):
    """Values, locations in the maps and a little around them, and weights, in float64."""
    rng = np.random.default_rng(0)
    total = sum(height * width for height, width in sizes)
    shape = (batch, queries, heads, len(sizes), points)
    values = rng.normal(size=(batch, total, heads, width))
    return values, rng.uniform(-0.3, 1.3, (*shape, 2)), rng.random(shape) / points


def cast(arrays, dtype=jnp.float32):
    return [jnp.asarray(x, dtype) for x in arrays]


def naive(values, sizes, locations, weights):
    """The definition: one sample and one corner at a time."""
    batch, queries, heads, levels, points, _ = locations.shape
    result = np.zeros((batch, queries, heads, values.shape[-1]))
    starts = np.cumsum([0] + [height * width for height, width in sizes])
    for b, q, h, level, p in itertools.product(
        *map(range, (batch, queries, heads, levels, points))
    ):
        height, width = sizes[level]
        x, y = locations[b, q, h, level, p] * (width, height) - 0.5
        left, top = int(np.floor(x)), int(np.floor(y))
        for row, column in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(x - column)) * (1 - abs(y - row)) * weights[b, q, h, level, p]
                result[b, q, h] += share * values[b, starts[level] + row * width + column, h]
    return result.reshape(batch, queries, -1)


def plain(values, sizes, locations, weights):
    """The definition by `sample`, for JAX to differentiate."""
    per_head = jax.vmap(jax.vmap(sample, (2, 1), 1))  # over images, then heads
    result, start = 0.0, 0
    for level, (height, width) in enumerate(sizes):
        maps = values[:, start : start + height * width]
        maps = maps.reshape(len(values), height, width, *values.shape[2:])
        samples = per_head(maps, locations[:, :, :, level])
        result += (samples * weights[:, :, :, level, :, None]).sum(-2)
        start += height * width
    return result.reshape(*result.shape[:2], -1)


def read(attend, places, pixels):
    """What one head with weight 1 reads at each place (x, y) of a map."""
    height, width = np.shape(pixels)
    values = jnp.asarray(pixels, jnp.float32).reshape(1, -1, 1, 1)
    locations = jnp.asarray(places, jnp.float32).reshape(1, -1, 1, 1, 1, 2)
    weights = jnp.ones(locations.shape[:-1])
    return jax.jit(attend, static_argnums=1)(values, ((height, width),), locations, weights)[
        0, :, 0
    ]


def test_by_hand(attend):
    values_by_place = {
        (2.5 / 4, 1.5 / 2): 30,  # the centre of a pixel
        (0.5 / 4, 0.5 / 2): 1,
        (2 / 4, 1 / 2): (2 + 3 + 20 + 30) / 4,  # amid four
        (1.75 / 4, 0.5 / 2): 2.25,  # a quarter of the way to the next in the row
        (0, 0.5 / 2): 1 / 2,  # the border, half a pixel outside the first centre
        (1, 1): 40 / 4,  # the corner
        (-0.5 / 4, 0.5 / 2): 0,  # the centre of a pixel that isn't there
        (2.5 / 4, -1): 0,
        (-2000, 3000): 0,
    }
    found = read(attend, list(values_by_place), [[1, 2, 3, 4], [10, 20, 30, 40]])
    assert found.tolist() == pytest.approx(list(values_by_place.values()), rel=1e-6)


def test_a_map_of_one_pixel(attend):
    assert read(attend, [(0.5, 0.5), (0, 0.5), (1.25, 1)], [[8]]).tolist() == [8, 4, 1]


@pytest.mark.parametrize("sizes", SHAPES)
def test_equals_the_definition(attend, sizes):
    values, locations, weights = draw(**SHAPES[sizes])
    want = naive(values, sizes, locations, weights)
    ours = jax.jit(lambda v, x, w: attend(v, sizes, x, w))(*cast((values, locations, weights)))
    np.testing.assert_allclose(ours, want, rtol=0, atol=5e-6)


def test_bfloat16_values(attend):
    values, locations, weights = cast(draw())
    values = values.astype(jnp.bfloat16)
    ours = jax.jit(attend, static_argnums=1)(values, SIZES, locations, weights)
    assert ours.dtype == jnp.bfloat16
    want = naive(np.asarray(values, np.float64), SIZES, *map(np.asarray, (locations, weights)))
    np.testing.assert_allclose(np.asarray(ours, np.float64), want, rtol=2**-8, atol=1e-5)


def test_images_do_not_mix(attend):
    values, locations, weights = cast(draw(batch=3))
    together = jax.jit(attend, static_argnums=1)(values, SIZES, locations, weights)

    @jax.jit
    def alone(value, location, weight):
        return attend(value[None], SIZES, location[None], weight[None])[0]

    for i in range(3):
        one = alone(values[i], locations[i], weights[i])
        np.testing.assert_allclose(together[i], one, rtol=0, atol=1e-6)
    mapped = jax.jit(jax.vmap(alone))(values, locations, weights)
    np.testing.assert_allclose(together, mapped, rtol=0, atol=1e-6)


# The derivative.


def weighted_sum(function, sizes, seed=1):
    """The sum of the outputs with random weights, as a function of the three arrays."""

    def total(values, locations, weights):
        result = function(values, sizes, locations, weights)
        return (result * np.random.default_rng(seed).normal(size=result.shape)).sum()

    return total


@functools.cache
def derivative_of_plain(sizes):
    """JAX's, of the plain form, with what it is of."""
    arrays = cast(draw(**SHAPES[sizes]))
    return arrays, jax.jit(jax.grad(weighted_sum(plain, sizes), (0, 1, 2)))(*arrays)


def test_derivative_equals_central_differences(attend):
    arrays = draw()
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        total = jax.jit(weighted_sum(attend, SIZES))
        gradients = jax.jit(jax.grad(weighted_sum(attend, SIZES), (0, 1, 2)))(*cast(arrays, float))
        for i, gradient in enumerate(gradients):
            assert gradient.dtype == jnp.float64
            assert (gradient != 0).mean() > 0.5
            for _ in range(4):
                direction = np.zeros_like(arrays[i])
                some = rng.random(direction.shape) < 0.3
                direction[some] = rng.normal(size=some.sum()) * 1e-6
                ends = [
                    float(total(*arrays[:i], arrays[i] + step, *arrays[i + 1 :]))
                    for step in (direction, -direction)
                ]
                slope = float((gradient * direction).sum())
                assert (ends[0] - ends[1]) / 2 == pytest.approx(slope, rel=1e-6, abs=1e-13)


@pytest.mark.parametrize("sizes", SHAPES)
def test_derivative_equals_that_of_the_plain_form(attend, run, sizes):
    arrays, theirs = derivative_of_plain(sizes)
    ours = run(jax.grad(weighted_sum(attend, sizes), (0, 1, 2)), *arrays)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-5)


def test_derivative_in_bfloat16(attend, run):
    (values, locations, weights), exact = derivative_of_plain(SIZES)
    loss = weighted_sum(lambda *x: attend(*x).astype(jnp.float32), SIZES)
    ours = run(jax.grad(loss, (0, 1, 2)), values.astype(jnp.bfloat16), locations, weights)
    assert [x.dtype for x in ours] == [jnp.bfloat16, jnp.float32, jnp.float32]
    for x, y in zip(ours, exact, strict=True):
        scale = float(abs(y).max())
        np.testing.assert_allclose(x.astype(jnp.float32), y, rtol=2**-6, atol=scale * 2**-8)


@pytest.mark.parametrize("sizes", [((3, 5), (6, 3)), ((3, 5), (6, 4), (1, 2)), ((39, 1),)])
def test_sizes_must_fit_the_arrays(sizes):
    values, locations, weights = cast(draw())
    with pytest.raises(ValueError, match=r"ms_deform_attn: sizes .* values 39 entries"):
        ms_deform_attn(values, sizes, locations, weights)
