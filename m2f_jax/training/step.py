"""One step of training: gradients, clipping, AdamW; compiled once, for any number of devices."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import einops
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.modeling.mask2former import Mask2Former, training_network, without_kernels
from m2f_jax.training.batch import TrainBatch, unpack
from m2f_jax.training.config import TrainConfig
from m2f_jax.training.losses import loss
from m2f_jax.training.optimizer import learning_rates, make_optimizer

DATA = "data"  # the axis of devices
SMALL = 2**14  # numbers; a parameter of fewer isn't worth being sharded


@dataclass(frozen=True)
class Layout:
    """How a training lies on devices: each has a part of every batch.

    Attributes:
        mesh: the devices, along one axis.
        shard_parameters: each also keeps only a part of the parameters and of the optimizer's
            state, and gets the others' when it needs them; otherwise all keep everything.
    """

    mesh: Mesh | AbstractMesh
    shard_parameters: bool = False

    @classmethod
    def over(cls, devices: Any = None, *, shard_parameters: bool = False) -> "Layout":
        """Over these devices, by default all of all processes."""
        devices = np.array(jax.devices() if devices is None else devices)
        return cls(Mesh(devices, (DATA,)), shard_parameters)

    def of_array(self, shape: tuple[int, ...]) -> NamedSharding:
        """Of a parameter: its longest side that the devices can share, if there is one."""
        sides = [i for i, side in enumerate(shape) if side % self.mesh.size == 0]
        if not self.shard_parameters or np.prod(shape) < SMALL or not sides:
            return NamedSharding(self.mesh, PartitionSpec())
        longest = max(sides, key=lambda i: shape[i])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, DATA))

    def of(self, tree: Any) -> Any:
        """Of all arrays in a tree."""
        return jax.tree.map(lambda x: self.of_array(jnp.shape(x)), tree)

    def put_batch(self, batch: TrainBatch) -> TrainBatch:
        """This process's part of a batch onto its devices, as a part of the whole batch."""
        sharding = NamedSharding(self.mesh, PartitionSpec(DATA))
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
        )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "parameters", "optimizer", "average", "skipped"],
    meta_fields=["graph", "config", "layout"],
)
@dataclass(frozen=True)
class TrainState:
    """Everything that a step changes, and what it goes by.

    Attributes:
        step: the number of steps taken, the skipped ones included.
        parameters: the model's, float32, as nested dictionaries.
        optimizer: AdamW's state.
        average: the moving average of the parameters, or None.
        skipped: the number of steps in which a gradient wasn't finite, and nothing was changed.
        graph: the model without its parameters.
        config: of the training.
        layout: on which devices it lies.
    """

    step: Int[Array, ""]
    parameters: Any
    optimizer: Any
    average: Any
    skipped: Int[Array, ""]
    graph: nnx.GraphDef
    config: TrainConfig
    layout: Layout

    @classmethod
    def of(
        cls, model: Mask2Former, config: TrainConfig, layout: Layout | None = None
    ) -> "TrainState":
        """The state before the first step, of a model with float32 parameters.

        Raises:
            ValueError: the model has other parameters, or computes in another dtype than the config
                says.
        """
        if model.dtype.name != config.dtype:
            raise ValueError(
                f"the model computes in {model.dtype.name}, and TrainConfig.dtype is "
                f"{config.dtype}; give both the same, as in "
                "initialize(config.model, dtype=config.dtype)"
            )
        layout = layout or Layout.over()
        graph, state = nnx.split(without_kernels(model) if layout.mesh.size > 1 else model)
        parameters = nnx.as_pure(state)
        kinds = {x.dtype.name for x in jax.tree.leaves(parameters)}
        if kinds != {"float32"}:
            raise ValueError(
                f"training needs float32 parameters, not {', '.join(sorted(kinds))}; "
                "make the model by initialize or start_from"
            )
        parameters = jax.device_put(parameters, layout.of(parameters))
        # Copies, because a step gives its state away.
        parameters = jax.tree.map(jnp.copy, parameters)
        optimizer = make_optimizer(config).init(parameters)
        average = jax.tree.map(jnp.copy, parameters) if config.average_decay else None
        zero = jax.device_put(jnp.zeros((), jnp.int32), layout.of_array(()))
        return cls(
            step=zero,
            parameters=parameters,
            optimizer=jax.device_put(optimizer, layout.of(optimizer)),
            average=average,
            skipped=jnp.copy(zero),
            graph=graph,
            config=config,
            layout=layout,
        )

    def model(self) -> Mask2Former:
        """The model that the training has come to: of averaged parameters, if there are any.

        All processes of a training must call it together.
        """
        parameters = self.parameters if self.average is None else self.average
        everywhere = NamedSharding(self.layout.mesh, PartitionSpec())
        whole = jax.jit(lambda x: x, out_shardings=everywhere)(parameters)
        ours = jax.tree.map(lambda x: jnp.asarray(np.array(x.addressable_data(0))), whole)
        return nnx.merge(self.graph, ours)


class Metrics(NamedTuple):
    """What a step tells. Losses are means over the parts of an accumulated batch."""

    loss: Float[Array, ""]
    class_: Float[Array, "L"]  # per prediction, unweighted, the learned queries' first
    mask: Float[Array, "L"]
    dice: Float[Array, "L"]
    gradient_norm: Float[Array, ""]  # before clipping
    learning_rate: Float[Array, ""]
    finite: Bool[Array, ""]  # False: this step was skipped
    non_finite_costs: Int[Array, ""]


class MeanLosses(NamedTuple):
    """Of all parts of a batch."""

    total: Float[Array, ""]
    class_: Float[Array, "L"]
    mask: Float[Array, "L"]
    dice: Float[Array, "L"]
    non_finite_costs: Int[Array, ""]


def part_gradient(state: TrainState, part: TrainBatch, key: jax.Array) -> tuple[MeanLosses, Any]:
    """The losses of a part of a batch and their gradient by the parameters."""
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
        return losses.total, MeanLosses(*(getattr(losses, name) for name in MeanLosses._fields))

    (_, losses), gradient = jax.value_and_grad(part_loss, has_aux=True)(state.parameters)
    return losses, gradient


def mean_gradient(state: TrainState, batch: TrainBatch, key: jax.Array) -> tuple[MeanLosses, Any]:
    """The losses of a batch and their gradient, averaged over its parts."""
    count = state.config.accumulate
    if count == 1:  # a loop of one round would cost a CPU three quarters of its speed
        return part_gradient(state, batch, key)

    def add_part(total, part):
        losses, gradient = part_gradient(state, *part)
        return jax.tree.map(jnp.add, total, gradient), losses

    # Parts are taken across the batch, so that every device has something of each.
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
    """The state after one more step; the old one is given away.

    Args:
        state: as `TrainState.of` begins it; the computation runs where it lies.
        batch: of the whole step; with `accumulate`, it is gone through in so many parts.
        key: the training's; the step's own is made of it and of the number of the step.
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
    parameters, optimizer, average = jax.lax.with_sharding_constraint(after, state.layout.of(after))
    metrics = Metrics(
        loss=losses.total,
        class_=losses.class_,
        mask=losses.mask,
        dice=losses.dice,
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
        layout=state.layout,
    )
    return state, metrics
