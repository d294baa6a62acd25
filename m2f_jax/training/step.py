"""One step of training: gradients, clipping, AdamW; compiled once, for any number of devices."""

import functools
from typing import Any, NamedTuple

import einops
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.modeling.model import training_network
from m2f_jax.training.batch import TrainBatch, unpack
from m2f_jax.training.losses.criterion import loss
from m2f_jax.training.optimizer import learning_rates, make_optimizer
from m2f_jax.training.state import TrainState


class Metrics(NamedTuple):
    """What a step reports. Losses are means over the parts of an accumulated batch."""

    loss: Float[Array, ""]
    terms: dict[str, Float[Array, "L"]]  # per prediction, the learned queries first; unweighted
    gradient_norm: Float[Array, ""]  # before clipping
    learning_rate: Float[Array, ""]
    finite: Bool[Array, ""]  # False: this step was skipped
    non_finite_costs: Int[Array, ""]


class MeanLosses(NamedTuple):
    """The losses of a batch: means over its parts."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, "L"]]
    non_finite_costs: Int[Array, ""]


def part_gradient(state: TrainState, part: TrainBatch, key: jax.Array) -> tuple[MeanLosses, Any]:
    """Returns the losses of a part of a batch and their gradient by the parameters."""
    config = state.config

    def part_loss(parameters):
        drop_key, point_key = jax.random.split(key)
        pixel_values, _ = unpack(part)
        predictions = training_network(
            nnx.merge(state.graph, parameters),
            pixel_values,
            drop_key=drop_key,
            remat=config.remat,
        )
        # The barrier keeps XLA from making masks before the network is run.
        predictions, regions = jax.lax.optimization_barrier((predictions, part.regions))
        _, targets = unpack(part._replace(regions=regions))
        losses = loss(predictions, targets, config.loss, key=point_key)
        return losses.total, MeanLosses(losses.total, losses.terms, losses.non_finite_costs)

    (_, losses), gradient = jax.value_and_grad(part_loss, has_aux=True)(state.parameters)
    return losses, gradient


def mean_gradient(state: TrainState, batch: TrainBatch, key: jax.Array) -> tuple[MeanLosses, Any]:
    """Returns the losses of a batch and their gradient, averaged over its parts."""
    count = state.config.accumulate
    if count == 1:  # without a loop, which makes a CPU slower
        return part_gradient(state, batch, key)

    def add_part(total, part):
        losses, gradient = part_gradient(state, *part)
        return jax.tree.map(jnp.add, total, gradient), losses

    # Parts are strided, so that every device has images of each.
    parts = jax.tree.map(
        lambda x: einops.rearrange(x, "(b parts) ... -> parts b ...", parts=count), batch
    )
    zeros = jax.tree.map(jnp.zeros_like, state.parameters)
    gradient, losses = jax.lax.scan(add_part, zeros, (parts, jax.random.split(key, count)))
    gradient = jax.tree.map(lambda x: x / count, gradient)
    means = jax.tree.map(lambda x: x.mean(axis=0), losses)
    return means._replace(non_finite_costs=losses.non_finite_costs.sum()), gradient


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: TrainState, batch: TrainBatch, key: jax.Array) -> tuple[TrainState, Metrics]:
    """Takes one step; the given state is donated and can't be used again.

    A step whose gradient or loss isn't finite changes nothing but the counts of steps.

    Args:
        state: what `TrainState.of` or the step before returned; the computation runs on its
            devices.
        batch: the images of the whole step; `accumulate` splits it into so many parts.
        key: the key of the whole training run; the step's own is derived from it and the step's
            number.
    """
    config = state.config
    losses, gradient = mean_gradient(state, batch, jax.random.fold_in(key, state.step))
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm) & jnp.isfinite(losses.total)

    change, optimizer = make_optimizer(config).update(gradient, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, change)
    average = state.average
    if average is not None:
        average = optax.incremental_update(parameters, average, 1 - config.average_decay)

    before = state.parameters, state.optimizer, state.average
    after = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), (parameters, optimizer, average), before
    )
    parameters, optimizer, average = jax.lax.with_sharding_constraint(
        after, state.partitioner.shardings(after)
    )
    metrics = Metrics(
        loss=losses.total,
        terms=losses.terms,
        gradient_norm=norm,
        learning_rate=jnp.asarray(
            learning_rates(config.optimizer, config.steps)(state.step - state.skipped)
        ),
        finite=finite,
        non_finite_costs=losses.non_finite_costs,
    )
    state = TrainState(
        step=state.step + 1,
        parameters=parameters,
        optimizer=optimizer,
        average=average,
        skipped=state.skipped + ~finite,
        graph=state.graph,
        config=config,
        partitioner=state.partitioner,
    )
    return state, metrics
