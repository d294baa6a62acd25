"""The losses in the corners that no golden data covers."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from m2f_jax.structures import Predictions, Targets
from m2f_jax.training import LossConfig, LossPoints, loss
from m2f_jax.training.losses.criterion import factor
from m2f_jax.training.losses.matching import match
from m2f_jax.training.losses.pairs import (
    BLOCK,
    block_sums,
    choose_points,
    make_pair,
    pair_sums,
)
from m2f_jax.training.losses.terms import mask_cross_entropy, mask_dice, mask_focal
from tests.conftest import with_devices
from tests.training.losses.test_published_losses import KEY, close

# Random cases of one shape, so that `loss` compiles once: two predictions, two images of 32 x 48.

SMALL = LossConfig(num_points=40)
QUERIES, TARGETS, CLASSES = 12, BLOCK + 3, 4


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    return tuple(
        Predictions(
            rng.normal(size=(2, QUERIES, CLASSES + 1)).astype(np.float32),
            rng.normal(scale=3, size=(2, QUERIES, 8, 12)).astype(np.float32),
        )
        for _ in range(2)
    )


@pytest.fixture
def targets():
    rng = np.random.default_rng(1)
    masks = np.kron(rng.random((2, TARGETS, 4, 6)) < 0.3, np.ones((8, 8), bool))
    valid = np.arange(TARGETS) < np.array([[TARGETS], [2]])
    return Targets(rng.integers(CLASSES, size=(2, TARGETS)), masks, valid)


def total_and_losses(predictions, targets, key):
    losses = loss(predictions, targets, SMALL, key=key)
    return losses.total, losses


@pytest.fixture(scope="module")
def with_gradients():
    """The losses, and the derivatives of `total` by the predictions; compiled once per dtype."""
    compiled = {}

    def call(predictions, targets, key=KEY):
        arguments = jax.tree.map(jnp.asarray, (predictions, targets, key))
        dtype = predictions[0].class_logits.dtype
        if dtype not in compiled:
            step = jax.jit(jax.value_and_grad(total_and_losses, has_aux=True))
            compiled[dtype] = step.lower(*arguments).compile({"xla_backend_optimization_level": 0})
        (_, losses), gradients = compiled[dtype](*arguments)
        return losses, gradients

    return call


def all_finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def test_blocks_of_targets_change_nothing(targets):
    """Against plain automatic differentiation of all targets at once."""
    rng = np.random.default_rng(2)
    mask_embeddings = jnp.asarray(rng.normal(size=(2, 2, QUERIES, 5)), jnp.float32)
    per_pixel = jnp.asarray(rng.normal(size=(2, 8, 12, 5)), jnp.float32)
    assignment = np.stack([np.stack([rng.permutation(QUERIES)[:TARGETS] for _ in "ab"])] * 2)
    assignment[:, ~targets.valid] = -1
    assignment[0, 0, -1] = -1
    assignment, masks = jnp.asarray(assignment), jnp.asarray(targets.masks)
    points = jnp.asarray(rng.random((2, 2, 2 * BLOCK, 30, 2), np.float32))
    weights = rng.random((2, 2, 2), np.float32)
    terms = (mask_cross_entropy, mask_dice)

    def at_once(mask_embeddings, per_pixel):
        chosen = jnp.take_along_axis(mask_embeddings, np.maximum(assignment, 0)[..., None], 2)
        query = jnp.where(assignment < 0, QUERIES, assignment)
        some = points[:, :, :TARGETS]
        return block_sums(terms, chosen, per_pixel, query, masks, some, QUERIES)

    def in_blocks(mask_embeddings, per_pixel):
        return pair_sums(terms, mask_embeddings, per_pixel, masks, assignment, points)

    results = []
    for sums in (at_once, in_blocks):
        values, vjp = jax.vjp(jax.jit(sums), mask_embeddings, per_pixel)
        results.append((values, vjp(tuple(weights))))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6), *results)
    for gradient in results[0][1]:
        assert np.abs(gradient).max() > 0.01


def test_every_prediction_has_its_own_points(predictions, targets, with_gradients):
    alike = predictions[:1] * 2
    losses, _ = with_gradients(alike, targets)
    assert losses.terms["mask"][0] != losses.terms["mask"][1]
    assert with_gradients(alike, targets)[0].total == losses.total
    assert with_gradients(alike, targets, jax.random.key(1))[0].total != losses.total


def test_points_are_uncertain_ones_and_others_from_everywhere():
    x, y = np.meshgrid(np.arange(12) + 0.5, np.arange(8) + 0.5)
    logits = jnp.asarray(np.stack([x - 6, y - 4]), jnp.float32)[None]  # 0 in the middle
    _, *factors = factor((Predictions(jnp.zeros((1, 2, 1)), logits),))
    assignment = jnp.array([[[1, 0]]])
    config = LossConfig(num_points=400)
    chosen = np.asarray(
        jax.jit(choose_points, static_argnums=3)(*factors, assignment, config, KEY, None)
    )
    uncertain, extra = np.split(chosen[0, 0, :2], [300], axis=1)
    # The nearest quarter to the middle of their own query's map. Logits fade to half at the border
    # and to a quarter in the corners, so a few points there count.
    distance = np.quantile(np.abs(uncertain - 0.5), 0.98, axis=1)
    assert (distance > [[0.45, 0.1], [0.1, 0.45]]).all()
    assert (distance < [[0.5, 0.2], [0.2, 0.5]]).all()
    for points in (extra[0], extra[1]):
        assert (np.histogram2d(*points.T, bins=2, range=[[0, 1], [0, 1]])[0] > 10).all()


def cross_entropy_and_dice(logits, mask):
    """Of two maps of one size, in float64."""
    logits, mask = logits.astype(np.float64), mask.astype(np.float64)
    probs = 1 / (1 + np.exp(-logits))
    cross_entropy = -(mask * np.log(probs) + (1 - mask) * np.log(1 - probs)).mean()
    return cross_entropy, 1 - (2 * (probs * mask).sum() + 1) / (probs.sum() + mask.sum() + 1)


def test_whole_masks(predictions, targets, run):
    """Against sums over all pairs and pixels, of masks shrunk to stride 4."""
    config = LossConfig(num_points=None)
    rng = np.random.default_rng(4)
    targets = targets._replace(masks=rng.random(targets.masks.shape) < 0.4)

    def total(predictions):
        losses = loss(predictions, targets, config, key=KEY)
        return losses.total, losses

    gradients, losses = run(jax.grad(total, has_aux=True), predictions)
    assert all_finite((gradients, losses))
    # Halfway between the pixels 1 and 2 of every four.
    small = targets.masks.reshape(2, TARGETS, 8, 4, 12, 4)[:, :, :, 1:3, :, 1:3].mean(axis=(3, 5))
    for layer, prediction in enumerate(predictions):
        sums = np.zeros(2)
        for image in range(2):
            class_logits = prediction.class_logits[image].astype(np.float64)
            probs = np.exp(class_logits) / np.exp(class_logits).sum(axis=-1, keepdims=True)
            pairs = np.array(
                [
                    [
                        cross_entropy_and_dice(logits, mask)
                        for logits in prediction.mask_logits[image]
                    ]
                    for mask in small[image][targets.valid[image]]
                ]
            )
            labels = targets.labels[image][targets.valid[image]]
            costs = -2 * probs[:, labels].T + 5 * pairs.sum(axis=-1)
            target, query = scipy.optimize.linear_sum_assignment(costs)
            np.testing.assert_array_equal(losses.assignment[layer, image, target], query)
            sums += pairs[target, query].sum(axis=0)
        cross_entropy, dice = sums / targets.valid.sum()
        close(losses.terms["mask"][layer], np.float32(cross_entropy), 1e-5)
        close(losses.terms["dice"][layer], np.float32(dice), 1e-5)
    other = run(
        lambda predictions: loss(predictions, targets, config, key=jax.random.key(1)), predictions
    )
    assert other.total == losses.total  # nothing is random


def test_whole_masks_have_the_gradients_of_plain_differentiation(predictions, targets, run):
    config = LossConfig(num_points=None)
    small = targets.masks.reshape(2, TARGETS, 8, 4, 12, 4)[:, :, :, 1:3, :, 1:3].mean(axis=(3, 5))

    def with_blocks(predictions):
        losses = loss(predictions, targets, config, key=KEY)
        return losses.terms["mask"].sum() + 2 * losses.terms["dice"].sum(), losses.assignment

    gradients, assignment = run(jax.grad(with_blocks, has_aux=True), predictions)

    assignment = np.asarray(assignment)

    def plainly(predictions):
        total = 0.0
        for layer, image, target in np.argwhere(assignment >= 0):
            query = assignment[layer, image, target]
            logits, mask = predictions[layer].mask_logits[image, query], small[image, target]
            probs = jax.nn.sigmoid(logits)
            dice = 1 - (2 * (probs * mask).sum() + 1) / (probs.sum() + mask.sum() + 1)
            total += (jax.nn.softplus(logits) - logits * mask).mean() + 2 * dice
        return total / targets.valid.sum()

    predictions = jax.tree.map(jnp.asarray, predictions)
    small = jnp.asarray(small, jnp.float32)
    for ours, plain in zip(gradients, run(jax.grad(plainly), predictions), strict=True):
        assert np.abs(plain.mask_logits).max() > 1e-3
        np.testing.assert_allclose(ours.mask_logits, plain.mask_logits, rtol=1e-4, atol=1e-7)


def test_whole_masks_take_no_points(predictions, targets):
    points = LossPoints(*(np.zeros((2, 2, 3, 4, 2), np.float32) for _ in range(3)))
    points = points._replace(matching=points.matching[:, :, 0])
    with pytest.raises(ValueError, match="num_points is None"):
        loss(predictions, targets, LossConfig(num_points=None), key=KEY, points=points)


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_finite_for_huge_logits(predictions, targets, size, with_gradients):
    huge = tuple(
        Predictions(*(np.where(x > 0, size, -size).astype(np.float32) for x in prediction))
        for prediction in predictions
    )
    losses, gradients = with_gradients(huge, targets)
    assert all_finite(losses)
    assert all_finite(gradients)
    assert losses.total > 1e29
    assert ((losses.assignment >= 0) == targets.valid).all()


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_finite_for_huge_logits_that_are_enlarged(size):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(np.where(rng.random((4, 6)) < 0.5, size, -size), jnp.float32)
    mask = jnp.asarray(rng.random((16, 24)) < 0.5)

    def total(logits):
        pair = make_pair(logits, mask, None)
        return mask_focal(pair) + mask_dice(pair)

    assert all_finite(jax.value_and_grad(total)(logits))
    assert total(logits) > 1e28


def test_half_precision_is_computed_in_float32(predictions, targets, with_gradients):
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), predictions)
    losses, gradients = with_gradients(half, targets)
    exact, _ = with_gradients(jax.tree.map(lambda x: x.astype(jnp.float32), half), targets)
    assert losses.total.dtype == jnp.float32
    assert losses.total == exact.total
    assert {x.dtype for x in jax.tree.leaves(gradients)} == {jnp.dtype(jnp.bfloat16)}


def test_images_without_objects(predictions, targets, with_gradients):
    targets.valid[1] = False
    losses, gradients = with_gradients(predictions, targets)
    assert all_finite((losses, gradients))
    assert (losses.assignment[:, 1] == -1).all()
    assert losses.terms["mask"].min() > 0
    for gradient in gradients:
        assert not gradient.mask_logits[1].any()
        assert gradient.class_logits[1].any()

    targets.valid[:] = False
    losses, gradients = with_gradients(predictions, targets)
    assert all_finite((losses, gradients))
    assert (losses.assignment == -1).all()
    assert not losses.terms["mask"].any()
    assert not losses.terms["dice"].any()
    expected = [-jax.nn.log_softmax(x.class_logits)[..., -1].mean() for x in predictions]
    np.testing.assert_allclose(losses.terms["class"], expected, rtol=1e-5)


def test_no_targets_at_all(predictions, targets, run):
    none = Targets(*(x[:, :0] for x in targets))
    _, losses = run(total_and_losses, predictions, none, KEY)
    assert losses.assignment.shape == (2, 2, 0)
    assert not losses.terms["mask"].any()
    assert np.isfinite(losses.total)


def test_what_fills_up_changes_nothing(predictions, targets, with_gradients):
    losses, gradients = with_gradients(predictions, targets)
    filler = ~targets.valid
    targets.masks[filler] = ~targets.masks[filler]
    targets.labels[filler] = CLASSES - 1 - targets.labels[filler]
    other, other_gradients = with_gradients(predictions, targets)
    jax.tree.map(np.testing.assert_array_equal, (losses, gradients), (other, other_gradients))


def test_more_targets_than_queries(predictions, targets, run):
    """Only as many as there are queries, those that cost least."""
    few = tuple(Predictions(*(x[:, :5] for x in prediction)) for prediction in predictions)
    _, losses = run(total_and_losses, few, targets, KEY)
    assert all_finite(losses)
    assert ((losses.assignment >= 0).sum(axis=2) == jnp.array([5, 2])).all()
    assert losses.terms["mask"].min() > 0


def test_costs_that_are_not_finite_are_counted(predictions, targets, with_gradients):
    broken = predictions[0].class_logits.copy()
    broken[1, 3, 0] = np.nan
    losses, _ = with_gradients(
        (predictions[0]._replace(class_logits=broken), predictions[1]), targets
    )
    assert losses.non_finite_costs == 2  # one query, two targets
    assert not (losses.assignment[0, 1] == 3).any()
    assert ((losses.assignment >= 0) == targets.valid).all()


def test_matching_goes_on_around_costs_that_are_not_finite():
    rng = np.random.default_rng(3)
    costs = rng.normal(size=(2, 3, 7, 9)).astype(np.float32)
    broken = rng.random(costs.shape) < 0.2
    valid = np.arange(7) < np.array([[7], [4], [0]])
    spoilt = np.where(broken, rng.choice([np.nan, np.inf, -np.inf], costs.shape), costs)
    assignment, count = match(jnp.asarray(spoilt, jnp.float32), jnp.asarray(valid))
    assert count == (broken & valid[:, :, None]).sum()
    for i in range(3):
        for layer in range(2):
            kept = np.where(broken[layer, i], 1e3, costs[layer, i])[valid[i]]
            target, query = scipy.optimize.linear_sum_assignment(kept)
            found = kept[target, assignment[layer, i][valid[i]]]
            np.testing.assert_allclose(found.sum(), kept[target, query].sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t: (p[:0], t), "predictions is empty"),
        (lambda p, t: ((p[0], Predictions(*(x[:, 1:] for x in p[1]))), t), "differ in shape"),
        (lambda p, t: (p, t._replace(labels=t.labels[:, 1:])), r"labels \(2, 10\)"),
        (lambda p, t: (p, t._replace(masks=t.masks[:, :, ::2])), "8 x 12"),
        (lambda p, t: (p, Targets(*(x[:1] for x in t))), "B = 2"),
    ],
)
def test_what_does_not_fit_is_named(predictions, targets, change, message):
    predictions, targets = change(predictions, targets)
    with pytest.raises(ValueError, match=message):
        loss(predictions, targets, SMALL, key=KEY)


def test_points_that_do_not_fit_are_named(predictions, targets):
    shapes = (2, 2, 40, 2), (2, 2, TARGETS, 120, 2), (2, 2, TARGETS, 40, 2)
    points = LossPoints(*(np.zeros(shape, np.float32) for shape in shapes))
    with pytest.raises(ValueError, match=r"expected .*\(2, 2, 11, 10, 2\)"):
        loss(predictions, targets, SMALL, key=KEY, points=points)


def test_config_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="num_points must be"):
        LossConfig(num_points=0)
    with pytest.raises(ValueError, match=r"importance_sample_ratio .* must be"):
        LossConfig(oversample_ratio=0.5)


DEVICES = """
import jax, sys
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from m2f_jax.structures import Predictions, Targets
from m2f_jax.training import LossConfig, loss

rng = np.random.default_rng(0)
predictions = (
    Predictions(
        rng.normal(size=(8, 5, 4)).astype(np.float32),
        rng.normal(size=(8, 5, 4, 4)).astype(np.float32),
    ),
)
valid = np.arange(2) < rng.integers(3, size=(8, 1))
targets = Targets(rng.integers(3, size=(8, 2)), rng.random((8, 2, 16, 16)) < 0.5, valid)
mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
spread = NamedSharding(mesh, PartitionSpec("batch"))

def total(predictions, targets):
    losses = loss(predictions, targets, LossConfig(num_points=20), key=jax.random.key(0))
    return losses.total, losses

step = jax.jit(jax.value_and_grad(total, has_aux=True))
one, eight = (
    jax.tree.leaves(step(*jax.device_put((predictions, targets), where)))
    for where in (jax.devices()[0], spread)
)
assert len(eight[-1].sharding.device_set) == 8
for x, y in zip(one, eight, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
"""


def test_one_device_and_eight_agree():
    environment = os.environ | {"XLA_FLAGS": with_devices(8), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", DEVICES], check=True, env=environment)
