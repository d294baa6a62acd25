"""A training step: what it changes, on how many devices it runs, and what it refuses."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.config import FPNPixelDecoderConfig, VideoMask2FormerConfig
from m2f_jax.modeling.parameters import abstract_model, fill, parameters
from m2f_jax.training.batch import OVERLAPS, TrainBatch, unpack
from m2f_jax.training.config import LossConfig, OptimizerConfig, TrainConfig
from m2f_jax.training.initialize import initialize
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.state import TrainState
from m2f_jax.training.step import mean_gradient, part_gradient, train_step
from tests.conftest import MICRO, ROOT, with_devices

SIZE = (32, 64)
NUM_SEGMENTS = 3


def make_batch(count: int) -> TrainBatch:
    """Images of two colored halves, each a segment of its own class."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (count, *SIZE, 3), dtype=np.uint8)
    regions = np.zeros((count, *SIZE), np.uint16)
    members = np.zeros((count, NUM_SEGMENTS, NUM_SEGMENTS + 1 + OVERLAPS), bool)
    for i in range(count):
        border = int(rng.integers(20, 44))
        images[i, :, :border, 0] += 180
        regions[i, :, :border], regions[i, :, border:] = 1, 2
        members[i, 0, 1] = members[i, 1, 2] = True
    labels = np.tile(np.array([0, 1, 0], np.int32), (count, 1))
    valid = np.tile([True, True, False], (count, 1))
    return TrainBatch(images, regions, members, labels, valid, np.zeros(count, np.int32))


def make_config(model, **changes) -> TrainConfig:
    return TrainConfig(
        model=model,
        **{
            "steps": 100,
            "loss": LossConfig(num_points=32),
            "optimizer": OptimizerConfig(learning_rate=3e-3, clip_norm=1.0),
            **changes,
        },
    )


def arrays(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


@jax.jit
def whole_and_broken(parameters):
    return [
        jax.tree.map(lambda x, factor=factor: x * factor, parameters) for factor in (1, jnp.nan)
    ]


@pytest.fixture(scope="module")
def trained(micro):
    """The states and metrics of eight steps on one batch, in which the sixth sees a NaN."""
    state = TrainState.of(
        micro, make_config(micro.config, average_decay=0.5), Partitioner.over(jax.devices()[:1])
    )
    batch, key = make_batch(4), jax.random.key(0)
    history = []
    for step in range(8):
        if step == 5:
            whole, broken = whole_and_broken(state.parameters)
            state = dataclasses.replace(state, parameters=broken)
        before = arrays((state.parameters, state.optimizer, state.average))
        state, metrics = train_step(state, batch, key)
        after = arrays((state.parameters, state.optimizer, state.average))
        history.append((before, after, jax.device_get(metrics), int(state.skipped)))
        if step == 5:
            state = dataclasses.replace(state, parameters=whole)
    return history


def test_the_loss_of_one_batch_falls(trained):
    losses = [metrics.loss for _, _, metrics, _ in trained[:5]]
    assert losses[4] < 0.9 * losses[0]


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(trained):
    assert [bool(metrics.finite) for _, _, metrics, _ in trained] == [True] * 5 + [
        False,
        True,
        True,
    ]
    assert [skipped for *_, skipped in trained] == [0] * 5 + [1, 1, 1]
    before, after, *_ = trained[5]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    rates = [float(metrics.learning_rate) for _, _, metrics, _ in trained]
    assert rates[5] == rates[6] > rates[7]  # a skipped step doesn't count


def test_everything_but_unused_rows_changes(trained):
    before, after, metrics, _ = trained[0]
    assert sum(np.array_equal(old, new) for old, new in zip(before, after, strict=True)) < 5
    terms = metrics.terms
    assert {name: x.shape for name, x in terms.items()} == dict.fromkeys(terms, (2,))
    weighted = 2 * terms["class"] + 5 * terms["mask"] + 5 * terms["dice"]
    assert metrics.loss == pytest.approx(weighted.sum(), rel=1e-5)


def test_maskformers_design_trains(toys):
    """Plain cross-attention, an FPN and losses over whole masks, on any backbone."""
    config = dataclasses.replace(
        MICRO,
        backbone=toys["backbone"],
        pixel_decoder=FPNPixelDecoderConfig(dim=32, mask_dim=8),
        decoder=dataclasses.replace(MICRO.decoder, masked=False),
    )
    settings = make_config(config, loss=LossConfig(num_points=None))
    state = TrainState.of(initialize(config), settings, Partitioner.over(jax.devices()[:1]))
    losses, before = [], arrays(state.parameters)
    for _ in range(4):
        state, metrics = train_step(state, make_batch(4), jax.random.key(0))
        assert metrics.finite
        losses.append(float(metrics.loss))
    assert losses[3] < losses[0]
    assert not any(
        np.array_equal(old, new)
        for old, new in zip(before, arrays(state.parameters), strict=True)
        if old.size > 1
    )


def test_the_callers_model_survives(micro):
    before = arrays(micro)
    state = TrainState.of(micro, make_config(micro.config))
    jax.tree.map(lambda x: x.delete(), state.parameters)
    for old, new in zip(before, arrays(micro), strict=True):
        np.testing.assert_array_equal(old, new)


def test_accumulation_averages_over_parts(toys):
    config = dataclasses.replace(MICRO, **toys)
    state = TrainState.of(initialize(config), make_config(config, accumulate=2))
    batch, key = make_batch(4), jax.random.key(0)
    losses, gradient = jax.jit(mean_gradient)(state, batch, key)
    parts = [
        jax.jit(part_gradient)(state, jax.tree.map(lambda x, i=i: x[i::2], batch), part_key)
        for i, part_key in enumerate(jax.random.split(key, 2))
    ]
    totals = [float(part.total) for part, _ in parts]
    assert totals[0] != pytest.approx(totals[1], rel=1e-3)
    assert float(losses.total) == pytest.approx(np.mean(totals), rel=1e-5)
    gradients = [jax.tree.leaves(part_gradient) for _, part_gradient in parts]
    for mean, first, second in zip(jax.tree.leaves(gradient), *gradients, strict=True):
        np.testing.assert_allclose(mean, (first + second) / 2, rtol=1e-4, atol=1e-5)


def test_model_and_config_agree_on_the_dtype(micro):
    with pytest.raises(ValueError, match=r"computes in float32, .* is bfloat16"):
        TrainState.of(micro, make_config(micro.config, dtype="bfloat16"))


def test_model_and_config_agree_on_the_parameters(micro):
    decoder = dataclasses.replace(micro.config.decoder, num_queries=7)
    other = dataclasses.replace(micro.config, decoder=decoder)
    with pytest.raises(ValueError, match=r"its decoder\.\w+ is \[5, 32\], the config's is \[7, 32"):
        TrainState.of(micro, make_config(other))
    fpn = dataclasses.replace(micro.config, pixel_decoder=FPNPixelDecoderConfig(dim=32, mask_dim=8))
    with pytest.raises(ValueError, match=r"the model isn't that of TrainConfig\.model: .* none"):
        TrainState.of(micro, make_config(fpn))


def test_parameters_must_be_float32(micro):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), micro)
    with pytest.raises(ValueError, match="bfloat16"):
        TrainState.of(half, make_config(micro.config))


DEVICES = """
import json
import jax, numpy as np
from tests.conftest import MICRO
from tests.training.test_step import make_batch, make_config
from m2f_jax.training.initialize import initialize
from m2f_jax.training import partitioning
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.state import TrainState
from m2f_jax.training.step import train_step

partitioning.SMALL = 64
assert len(jax.devices()) == 8
# From seed 0, one mask's logit is so near 0 in the second step that rounding decides its sign.
model = initialize(MICRO, seed=1)
results = []
for devices, sharded in ((1, False), (8, True)):
    partitioner = Partitioner.over(jax.devices()[:devices], shard_parameters=sharded)
    state = TrainState.of(model, make_config(MICRO), partitioner)
    losses = []
    for _ in range(2):
        batch = partitioner.put_batch(make_batch(8))
        state, metrics = train_step(state, batch, jax.random.key(0))
        losses.append(float(metrics.loss))
    replicated = [x.sharding.is_fully_replicated for x in jax.tree.leaves(state.parameters)]
    total = float(sum(np.abs(np.asarray(x)).sum() for x in jax.tree.leaves(state.parameters)))
    results.append([losses, total, replicated.count(True), replicated.count(False)])
print(json.dumps(results))
"""


def test_one_device_and_eight_do_the_same():
    """Each of eight has some parameters whole, as it has all by default, and parts of others."""
    found = subprocess.run(
        [sys.executable, "-c", DEVICES],
        env=os.environ | {"XLA_FLAGS": with_devices(8), "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    (one, one_total, *_), (eight, total, whole, parts) = json.loads(found.stdout)
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    np.testing.assert_allclose(total, one_total, rtol=1e-5)
    assert min(whole, parts) > 20


def test_large_parameters_are_sharded():
    partitioner = Partitioner(jax.sharding.AbstractMesh((8,), ("data",)), shard_parameters=True)
    assert tuple(partitioner.sharding((192, 576)).spec) == (None, "data")
    assert tuple(partitioner.sharding((1000, 100)).spec) == ("data",)
    assert tuple(partitioner.sharding((999, 101)).spec) == ()
    assert tuple(partitioner.sharding((64,)).spec) == ()
    whole = dataclasses.replace(partitioner, shard_parameters=False)
    assert tuple(whole.sharding((192, 576)).spec) == ()


def test_a_step_on_clips(micro):
    """Two frames of one clip, in the second of which one of the objects has moved."""
    parts = {name: getattr(MICRO, name) for name in ("backbone", "pixel_decoder", "decoder")}
    config = VideoMask2FormerConfig(labels=MICRO.labels, **parts)
    model = fill(abstract_model(config), {k: x[...] for k, x in parameters(micro).items()})
    frames = make_batch(2)
    members = frames.members[:1].copy()
    members[0, 0, 3] = True  # the first object's region in the second frame
    regions = frames.regions[None].copy()
    regions[0, 1][regions[0, 1] == 1] = 3
    of_clip = TrainBatch(frames.pixel_values[None], regions, members, *(x[:1] for x in frames[3:]))
    pixel_values, targets = unpack(of_clip)
    assert pixel_values.shape == (1, 2, *SIZE, 3)
    for frame in range(2):
        whole = unpack(jax.tree.map(lambda x: x[frame : frame + 1], frames))[1].masks  # noqa: B023
        np.testing.assert_array_equal(targets.masks[:, :, frame], whole)

    state = TrainState.of(model, make_config(config), Partitioner.over(jax.devices()[:1]))
    # What it computes is the losses and gradients of clips, which have tests of their own.
    losses, gradient = jax.eval_shape(mean_gradient, state, of_clip, jax.random.key(0))
    assert losses.terms["mask"].shape == (2,)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, state.parameters)
