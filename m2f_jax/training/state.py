"""The state of a training run: all that a step changes and a checkpoint keeps."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from m2f_jax.modeling.model import Model, without_kernels
from m2f_jax.modeling.parameters import parameter_shapes, parameters
from m2f_jax.training.config import TrainConfig
from m2f_jax.training.losses.terms import weighted_terms
from m2f_jax.training.optimizer import make_optimizer
from m2f_jax.training.partitioning import Partitioner


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "parameters", "optimizer", "average", "skipped"],
    meta_fields=["graph", "config", "partitioner"],
)
@dataclass(frozen=True)
class TrainState:
    """Everything that a step changes, and the settings that it follows.

    Attributes:
        step: the number of steps taken, the skipped ones included.
        parameters: the model's, float32, as nested dictionaries.
        optimizer: AdamW's state.
        average: the moving average of the parameters, or None.
        skipped: the number of steps that changed nothing because a gradient wasn't finite.
        graph: the model without its parameters.
        config: the settings of the training run.
        partitioner: which device holds which part of it.
    """

    step: Int[Array, ""]
    parameters: Any
    optimizer: Any
    average: Any
    skipped: Int[Array, ""]
    graph: nnx.GraphDef
    config: TrainConfig
    partitioner: Partitioner

    @classmethod
    def of(
        cls, model: Model, config: TrainConfig, partitioner: Partitioner | None = None
    ) -> "TrainState":
        """Returns the state before the first step; the model's own arrays stay as they are.

        Args:
            model: its parameters are float32, and it computes in the config's dtype.
            config: the settings of the training run.
            partitioner: the devices; by default those of all processes.

        Raises:
            ValueError: the model has other parameters or another dtype than the config says, or
                the config names an unknown term of the loss.
        """
        weighted_terms(config.loss)
        check_same_model(model, config)
        if model.dtype.name != config.dtype:
            raise ValueError(
                f"the model computes in {model.dtype.name}, and TrainConfig.dtype is "
                f"{config.dtype}; give both the same, as in "
                "initialize(config.model, dtype=config.dtype)"
            )
        partitioner = partitioner or Partitioner.over()
        graph, state = nnx.split(without_kernels(model) if partitioner.mesh.size > 1 else model)
        parameters = nnx.as_pure(state)
        kinds = {x.dtype.name for x in jax.tree.leaves(parameters)}
        if kinds != {"float32"}:
            raise ValueError(
                f"training needs float32 parameters, not {', '.join(sorted(kinds))}; "
                "make the model by initialize or start_from"
            )
        parameters = jax.device_put(parameters, partitioner.shardings(parameters))
        parameters, optimizer, average = begin(parameters, config, partitioner)
        zero = jax.device_put(jnp.zeros((), jnp.int32), partitioner.sharding(()))
        return cls(
            step=zero,
            parameters=parameters,
            optimizer=optimizer,
            average=average,
            skipped=jnp.copy(zero),
            graph=graph,
            config=config,
            partitioner=partitioner,
        )

    def model(self) -> Model:
        """Returns the model as trained so far, with averaged parameters if there are any.

        All processes of a training run must call it together.
        """
        parameters = self.parameters if self.average is None else self.average
        everywhere = NamedSharding(self.partitioner.mesh, PartitionSpec())
        whole = jax.jit(lambda x: x, out_shardings=everywhere)(parameters)
        ours = jax.tree.map(lambda x: jnp.asarray(np.array(x.addressable_data(0))), whole)
        return nnx.merge(self.graph, ours)


@functools.partial(jax.jit, static_argnums=(1, 2))
def begin(parameters: Any, config: TrainConfig, partitioner: Partitioner) -> tuple[Any, Any, Any]:
    """Returns copies of the parameters, which steps may donate, the optimizer's state and averages.

    One program, since each shape would need some of its own.
    """
    copies = jax.tree.map(jnp.copy, parameters)
    average = jax.tree.map(jnp.copy, parameters) if config.average_decay else None
    state = copies, make_optimizer(config).init(parameters), average
    return jax.lax.with_sharding_constraint(state, partitioner.shardings(state))


def check_same_model(model: Model, config: TrainConfig):
    """Refuses a model that isn't the config's, whose optimizer would have other parameters.

    Raises:
        ValueError: naming the first parameter that differs.
    """
    wanted = parameter_shapes(config.model)
    found = {name: value.shape for name, value in parameters(model).items()}
    for name in sorted({**wanted, **found}):
        if wanted.get(name) != found.get(name):
            ours, theirs = (list(x[name]) if name in x else "none" for x in (found, wanted))
            raise ValueError(
                f"the model isn't that of TrainConfig.model: its {name} is {ours}, the config's is "
                f"{theirs}; give both the same, as in initialize(config.model)"
            )
