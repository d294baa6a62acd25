"""Every primitive that has an ONNX form computes in both runtimes what it computes in JAX."""

import functools
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import lax

from m2f_jax.inference.export.onnx import sampling
from m2f_jax.inference.export.onnx.graph import write_graph
from m2f_jax.inference.export.onnx.openvino import import_openvino
from m2f_jax.inference.export.onnx.writing import WITH_SAMPLES
from m2f_jax.ops import ms_deform_attn as ops

CORE = import_openvino().Core()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
Y = RNG.normal(size=(2, 3, 4)).astype(np.float32)
POSITIVE = np.abs(X) + 0.5
WHOLE = RNG.integers(-9, 9, (2, 3, 4)).astype(np.int32)
OTHER = np.where(RNG.integers(0, 2, (2, 3, 4)), 3, -2).astype(np.int32)
BYTES = RNG.integers(0, 256, (2, 3, 4)).astype(np.uint8)
TRUE, TRUTH = RNG.random((2, 2, 3, 4)) < 0.5
IMAGE = RNG.normal(size=(1, 7, 6, 4)).astype(np.float32)
PLACES = np.array([2, -1, 0, 7, 3], np.int32)  # two of which an axis of four doesn't have
INSIDE = np.array([2, 1, 0, 3, 3], np.int32)


def convolve(x, kernel, **more):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **more)


def maxima(x):
    window, strides, padding = (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0))
    return lax.reduce_window(x, -np.inf, lax.max, window, strides, padding)


def double(count, x):
    return lax.while_loop(lambda s: s[0] > 0, lambda s: (s[0] - 1, s[1] * 2), (count, x))


def gather(x, starts, mode, sizes=(2, 3, 1), fill_value=None):
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(0, 1), collapsed_slice_dims=(2,), start_index_map=(2,)
    )
    if sizes[2] > 1:
        numbers = lax.GatherDimensionNumbers((0, 1, 2), (), (2,))
    return lax.gather(x, starts[:, None], numbers, sizes, mode=mode, fill_value=fill_value)


def by_image(x, rows):
    numbers = lax.GatherDimensionNumbers((1,), (1,), (1,), (0,), (0,))
    return lax.gather(x, rows[..., None], numbers, (1, 1, 4), mode="promise_in_bounds")


def reversed_scan(x):
    return lax.scan(lambda s, row: (s + row, s * row), x[0], x, reverse=True)


CASES = {
    **{f.__name__: (f, (X, Y)) for f in (lax.add, lax.sub, lax.mul, lax.div, lax.max, lax.min)},
    **{
        f.__name__: (f, (X,))
        for f in (
            *(lax.neg, lax.sign, lax.abs, lax.exp, lax.erf, lax.tanh, lax.floor),
            *(lax.logistic, lax.sin, lax.cos, lax.square),
        )
    },
    **{f.__name__: (f, (POSITIVE,)) for f in (lax.log, lax.sqrt, lax.rsqrt)},
    "pow": (lax.pow, (POSITIVE, Y)),
    "integer_pow": (lambda x: (x**3, x**2, lax.integer_pow(x, -1)), (X,)),
    **{
        f"{f.__name__} of {kind}": (f, arguments)
        for f in (lax.eq, lax.ne, lax.lt, lax.le, lax.gt, lax.ge)
        for kind, arguments in {"floats": (X, Y), "integers": (WHOLE, OTHER)}.items()
    },
    "ne of truth values": (lax.ne, (TRUE, TRUTH)),
    **{
        f"{f.__name__} of {kind}": (f, arguments)
        for f in (lax.bitwise_and, lax.bitwise_or, lax.bitwise_xor)
        for kind, arguments in {
            "truth values": (TRUE, TRUTH),
            "integers": (WHOLE, OTHER),
            "bytes": (BYTES, BYTES[::-1]),
        }.items()
    },
    "not": (lambda a, b: (~a, ~b), (TRUE, WHOLE)),
    "add_any": (lambda x: jax.grad(lambda y: jnp.sum(y * y.T))(x), (X[0, :3, :3],)),
    "bytes wrap": (lambda a, b: (a + b, a - b, a * b), (BYTES, BYTES[::-1])),
    "div of integers": (lax.div, (WHOLE, OTHER)),
    "rem": (lambda a, b, x, y: (lax.rem(a, b), lax.rem(x, y)), (WHOLE, OTHER, X, Y)),
    "shift_left": (lambda a, b: (a << 3, b << np.uint8(3)), (WHOLE, BYTES)),
    "shift_right": (lambda a, b: (a >> 2, b >> np.uint8(2)), (WHOLE, BYTES)),
    "select": (lambda c, x, y: (jnp.where(c, x, y), lax.select(c[0, 0, 0], x, y)), (TRUE, X, Y)),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.25), (X,)),
    "convert": (
        lambda x, a, c: (x.astype(int), a.astype(np.float32), c.astype(np.float32), a.astype(bool)),
        (X, WHOLE, TRUE),
    ),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 8, 23), (X,)),
    "broadcast": (
        lambda x: (x[:, None] + np.zeros((2, 5, 1, 4), np.float32), jnp.full_like(x, x[0, 0, 0])),
        (X[:, :1],),
    ),
    "reshape": (lambda x: (x.reshape(6, 4), jnp.squeeze(x[:, :1], 1), x[None]), (X,)),
    "reshape of a broadcast": (
        lambda x: jnp.broadcast_to(x[:, :1, None], (2, 1, 3, 4)).reshape(2, 3, 4) + X,
        (X,),
    ),
    "transpose": (lambda x: jnp.transpose(x, (2, 0, 1)), (X,)),
    "concatenate": (lambda x, y: jnp.concatenate([x, y, x[:, :1]], 1), (X, Y)),
    "stack": (lambda x, y: (jnp.stack([x, y], 1), jnp.stack([x, y], -1)), (X, Y)),
    "unstack": (lambda x: (*jnp.unstack(x), *jnp.unstack(x, axis=1)), (X,)),
    "split": (lambda x: jnp.split(x, [1, 3], 2), (X,)),
    "slice": (lambda x: lax.slice(x, (0, 1, 0), (2, 3, 4), (1, 1, 2)), (X,)),
    "rev": (lambda x: lax.rev(x, (0, 2)), (X,)),
    "pad": (
        lambda x, c: (jnp.pad(x, ((0, 1), (2, 0), (0, 0))), jnp.pad(c, 1, constant_values=True)),
        (X, TRUE),
    ),
    "reduce": (
        lambda x, a: (x.sum((0, 2)), x.max(1), x.min(2), x.prod(0), a.sum(), a.max(0)),
        (X, WHOLE),
    ),
    "reduce of truth values": (lambda c: (c.any(2), c.all(0), c.sum(1)), (TRUE,)),
    "arg": (
        lambda x, a, c: (x.argmax(1), x.argmin(2), a.argmax(0), c.argmax(2)),
        (X, np.zeros_like(WHOLE), TRUE),
    ),
    "cumsum": (
        lambda x, a: (x.cumsum(1), lax.cumsum(x, 2, reverse=True), a.cumsum(0)),
        (X, WHOLE),
    ),
    "top_k": (lambda x, a: (lax.top_k(x, 3), lax.top_k(a, 4)), (X, WHOLE)),
    "sort": (
        lambda x, a: (jnp.sort(x, 0), lax.sort((a, x), dimension=1, num_keys=1)),
        (X, WHOLE),
    ),
    "dot_general": (
        lambda x, y: (
            jnp.einsum("abc,abc->ab", x, y),
            jnp.einsum("abc,dbc->ad", x, y),
            jnp.einsum("abc,adc->bda", x, y),
            jnp.einsum("abc,dc->dab", x, y[0]),
            jnp.dot(x[0, 0], y[0, 0]),
        ),
        (X, Y),
    ),
    "convolution": (
        functools.partial(convolve, window_strides=(2, 1), padding=((1, 0), (1, 2))),
        (IMAGE, RNG.normal(size=(3, 2, 4, 5)).astype(np.float32)),
    ),
    "convolution of groups": (
        lambda x, kernel: convolve(
            x,
            kernel,
            window_strides=(1, 1),
            padding="VALID",
            rhs_dilation=(2, 1),
            feature_group_count=4,
        ),
        (IMAGE, RNG.normal(size=(3, 2, 1, 8)).astype(np.float32)),
    ),
    "maxima of windows": (maxima, (IMAGE,)),
    "softmax": (lambda x: jax.nn.softmax(x, axis=1), (X,)),
    "softmax where": (lambda x, c: jax.nn.softmax(x, where=c, axis=1), (X, TRUE)),
    "clamped gather": (functools.partial(gather, mode="clip"), (X, PLACES)),
    "promised gather": (functools.partial(gather, mode="promise_in_bounds"), (X, INSIDE)),
    "gather that fills": (functools.partial(gather, mode="fill"), (X, PLACES)),
    "gather of integers that fills": (functools.partial(gather, mode="fill"), (WHOLE, PLACES)),
    "gather of bytes that fills": (functools.partial(gather, mode="fill"), (BYTES, PLACES)),
    "gather of truth values that fills": (functools.partial(gather, mode="fill"), (TRUE, PLACES)),
    "gather that fills in sevens": (
        functools.partial(gather, mode="fill", fill_value=7),
        (X, PLACES),
    ),
    "gather of stretches that fills": (
        functools.partial(gather, mode="fill", sizes=(2, 3, 2)),
        (X, PLACES),
    ),
    "gather of stretches that clips": (
        functools.partial(gather, mode="clip", sizes=(2, 3, 2)),
        (X, PLACES),
    ),
    "gather of constant places": (lambda x: (gather(x, PLACES, "fill"), x[:, [2, 0]]), (X,)),
    "take": (lambda x, i: (jnp.take(x, i, 2), x[i % 2]), (X, PLACES)),
    "gather by image": (by_image, (X, np.array([[2, 0], [1, 1]], np.int32))),
    "dynamic_slice": (
        lambda x, i: (lax.dynamic_slice_in_dim(x, i, 2, 1), lax.dynamic_slice_in_dim(x, i, 2, 2)),
        (X, np.int32(2)),
    ),
    "dynamic_update_slice": (
        lambda x, y, i: lax.dynamic_update_slice_in_dim(x, y[:1], i, 0),
        (X, Y, np.int32(1)),
    ),
    "scan": (reversed_scan, (X,)),
    "while": (double, (np.int32(3), X)),
}  # fmt: skip


def traced(function, arguments):
    """A function's jaxpr, and the ONNX model of it."""
    closed = jax.make_jaxpr(function)(*arguments)
    inputs = {f"x{i}": jax.ShapeDtypeStruct(np.shape(x), x.dtype) for i, x in enumerate(arguments)}
    outputs = [f"y{i}" for i in range(len(closed.out_avals))]
    return closed, write_graph(closed, WITH_SAMPLES, inputs, outputs, {})


def run(model, arguments):
    """What ONNX Runtime and OpenVINO make of a model."""
    inputs = {f"x{i}": np.asarray(x) for i, x in enumerate(arguments)}
    session = onnxruntime.InferenceSession(model.SerializeToString())
    yield session.run(None, inputs)
    read = CORE.read_model(model.SerializeToString())
    found = CORE.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    yield [found[output.name] for output in model.graph.output]


@pytest.mark.parametrize("case", CASES)
def test_computes_what_jax_does(case):
    function, arguments = CASES[case]
    _, model = traced(function, arguments)
    want = jax.tree.leaves(jax.jit(function)(*arguments))
    for found in run(model, arguments):
        for ours, theirs in zip(found, want, strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


def sums_above(x, rows, least):
    """A loop over images with a state and one inside, which both read a value from outside."""

    def add(total, image):
        grown = lax.while_loop(lambda y: y.sum() < least, lambda y: 2 * y + 1, jnp.abs(image))
        return total + grown * least, (grown, total.sum() * rows)

    return lax.scan(add, jnp.full((3, 4), least), x, reverse=True)


OF_ANY_NUMBER = {
    "loops": (sums_above, (Y[:1, :1], np.float32(30))),
    "one axis of all images": (lambda x: x.reshape(-1, 2).sum(1, keepdims=True), ()),
    "two axes of images": (lambda x: (x[:, None] * x).reshape(x.shape[0], -1, 4), ()),
    "constants for each": (
        lambda x: jnp.concatenate([x, jnp.full((x.shape[0], 1, 4), 2.5, np.float32)], 1),
        (),
    ),
    "constants for each of their parts": (
        lambda x: jnp.einsum("npc,nqc->npq", x, jnp.ones((x.shape[0], 2, 4), np.float32)),
        (),
    ),
    "known places": (lambda x: (x[:, 1:3, -2], x[:, 1]), ()),
}


@pytest.mark.parametrize("case", OF_ANY_NUMBER)
def test_any_number_of_images(case):
    function, more = OF_ANY_NUMBER[case]
    shape = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("N"), 3, 4), np.float32)
    _, model = traced(function, (shape, *more))
    for n in (1, 2, 5):
        arguments = np.concatenate([X, Y, -X])[:n], *more
        want = jax.tree.leaves(function(*map(jnp.asarray, arguments)))
        for found in run(model, arguments):
            for ours, theirs in zip(found, want, strict=True):
                assert ours.shape == theirs.shape
                np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + jnp.arange(x.shape[0], dtype=np.float32)[:, None, None],
        lambda x: jnp.broadcast_to(x[:, :1, :1, None], (*x.shape, 2 * x.shape[0] - 1)),
    ],
)
def test_lengths_that_are_no_multiple_are_refused(function):
    shape = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("N"), 3, 4), np.float32)
    with pytest.raises(NotImplementedError, match=r"shape \(N,\)|an axis of 2\*N - 1"):
        traced(function, [shape])


def test_equal_constants_are_stored_once_and_what_nobody_reads_never():
    def function(x):
        jnp.exp(x) @ np.full((100, 9), 2.5, np.float32)  # for nothing
        return sum(jnp.roll(x + np.arange(100, dtype=np.float32), i) for i in range(3))

    _, model = traced(function, [np.zeros((2, 100), np.float32)])
    assert [len(x.raw_data) for x in model.graph.initializer if x.dims[-1:] == [100]] == [400]
    assert not any(x.op_type in ("Exp", "MatMul") for x in model.graph.node)


def test_deformable_attention():
    sizes, rng = ((2, 3), (5, 4)), np.random.default_rng(1)
    places = rng.uniform(-0.2, 1.2, (2, 7, 2, 2, 3, 2))  # some outside
    shapes = (2, 26, 2, 4), (2, 7, 2, 2, 3)
    values, weights = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    arguments = values, places.astype(np.float32), weights

    def attend(operator):
        return lambda values, *more: operator(values, sizes, *more)

    _, model = traced(attend(sampling.ms_deform_attn), arguments)
    want = attend(ops.ms_deform_attn)(*map(jnp.asarray, arguments))
    for [found] in run(model, arguments):
        np.testing.assert_allclose(found, want, rtol=0, atol=2e-6)


def test_no_primitive_is_left_out(equations):
    there = {
        equation.primitive.name
        for function, arguments in CASES.values()
        for equation in equations(jax.make_jaxpr(function)(*arguments))
    }
    assert set(WITH_SAMPLES) - there == {"grid_sample"}  # above


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda x: lax.reduce_precision(x, 8, 7), (X,)),
        (lambda a: lax.shift_right_logical(a, 2), (WHOLE,)),
        (lambda a: a << 32, (WHOLE,)),
        (lambda a, b: a << b, (WHOLE, OTHER)),
        (lambda x: lax.pad(x, np.float32(0), ((0, 0, 0), (0, 0, 1), (0, 0, 0))), (X,)),
        (lambda x: lax.pad(x, np.float32(0), ((0, 0, 0), (-1, 0, 0), (0, 0, 0))), (X,)),
        (lambda a, x: lax.sort((a, x), num_keys=2), (WHOLE, X)),
        (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 1, 2), (1,) * 4, "VALID"), (IMAGE,)),  # noqa: E501
        (lambda x: lax.reduce_window(x, -np.inf, lax.max, (2, 2), (1, 1), "VALID"), (X[0],)),
        (lambda x, i: x[i, i], (X, INSIDE[1:3])),
        (lambda x, y, i: lax.dynamic_update_slice_in_dim(x, y[:, :1], i, 1), (X, Y, np.int32(1))),
        (lambda c, x: lax.cond(c, lambda y: y + 1, lambda y: y * 2, x), (np.bool_(1), X)),
        (lambda x: lax.conv_transpose(x, IMAGE[:, :2, :4].swapaxes(0, 1), (2, 2), "SAME"), (IMAGE,)),  # noqa: E501
    ],
)  # fmt: skip
def test_what_has_no_form_is_refused(function, arguments):
    with pytest.raises(NotImplementedError):
        traced(function, arguments)


def test_openvino_tells_nobody_that_it_is_used():
    messages = sys.modules["openvino.tools.ovc.telemetry_utils"].tm
    assert messages.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry" not in sys.modules
