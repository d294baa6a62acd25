"""Random costs of matching: of real losses, and made up ones."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from m2f_jax.structures import Predictions
from m2f_jax.training import LossConfig
from m2f_jax.training.losses.criterion import factor
from m2f_jax.training.losses.matching import matching_costs

SHAPES = ((64, 200), (100, 100))  # targets and queries
NUM_CLASSES, MAP, POINTS = 8, (32, 64), 1000  # a quarter of the targets' size, fewer points


def draw_ellipses(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Returns masks of ellipses of many sizes."""
    y, x = np.mgrid[: size[0], : size[1]]
    centre_y, centre_x = (
        rng.uniform(0, size[0], (count, 1, 1)),
        rng.uniform(0, size[1], (count, 1, 1)),
    )
    half_height, half_width = np.exp(rng.uniform(1, 4, (2, count, 1, 1)))
    return ((y - centre_y) / half_height) ** 2 + ((x - centre_x) / half_width) ** 2 < 1


def draw_case(
    rng: np.random.Generator, num_targets: int, num_queries: int, *, alike: bool
) -> tuple[Predictions, np.ndarray, np.ndarray]:
    """Returns one image's predictions, target classes and target masks."""
    height, width = MAP
    labels = rng.integers(NUM_CLASSES, size=num_targets)
    masks = draw_ellipses(rng, num_targets, (4 * height, 4 * width))
    class_logits = rng.normal(size=(num_queries, NUM_CLASSES + 1))
    if alike:
        features = rng.normal(size=(16, 4, 8)).repeat(height // 4, 1).repeat(width // 8, 2)
        embeddings = rng.normal(size=16) + 0.05 * rng.normal(size=(num_queries, 16))
        mask_logits = np.einsum("qe,ehw->qhw", embeddings, features)
        class_logits = class_logits[:1] + 0.05 * class_logits
    else:
        own = draw_ellipses(rng, num_queries, MAP)
        near = rng.permutation(num_queries)[: num_targets // 2]
        own[near] = masks[: len(near), ::4, ::4]
        class_logits[near, labels[: len(near)]] += 3
        mask_logits = 8 * own - 4 + rng.normal(size=own.shape)
    arrays = (jnp.asarray(x, jnp.float32) for x in (class_logits, mask_logits))
    return Predictions(*arrays), labels, masks


def real_costs(rng: np.random.Generator, shape: tuple[int, int, int], *, alike: bool) -> np.ndarray:
    """Returns costs of matching, of as many images as there are problems."""
    problems, num_targets, num_queries = shape
    config, costs = LossConfig(), []
    for _ in range(problems):
        predictions, labels, masks = draw_case(rng, num_targets, num_queries, alike=alike)
        costs.append(
            matching_costs(
                factor((Predictions(*(x[None] for x in predictions)),)),
                jnp.asarray(labels)[None],
                jnp.asarray(masks)[None],
                jnp.asarray(rng.random((1, 1, POINTS, 2)), jnp.float32),
                config=config,
            )[0, 0]
        )
    return np.stack(costs)


def draw_costs(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields batches of problems with their names."""
    problems, num_targets, num_queries = shape
    columns, rows = (problems, 1, num_queries), (problems, num_targets, 1)
    yield "queries alike", real_costs(rng, shape, alike=True)
    yield "queries apart", real_costs(rng, shape, alike=False)
    yield "uniform", rng.random(shape)
    common = rng.normal(size=rows) + rng.normal(size=columns)
    yield "a sum and little more", common + 0.05 * rng.normal(size=shape)
    yield "whole numbers to 5", rng.integers(5, size=shape).astype(float)
    yield "all equal", np.ones(shape)
