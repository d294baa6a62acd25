"""Which device holds which part of a training run: every device has a part of each batch."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from m2f_jax.training.batch import TrainBatch

DATA = "data"  # the mesh's only axis
SMALL = 2**14  # numbers; a parameter of fewer isn't worth being sharded


@dataclass(frozen=True)
class Partitioner:
    """The partition of batches, parameters and optimizer state over devices.

    Attributes:
        mesh: the devices, along one axis.
        shard_parameters: whether each device keeps only a part of the parameters and of the
            optimizer's state, and gets the others' when it needs them. Otherwise each keeps all.
    """

    mesh: Mesh | AbstractMesh
    shard_parameters: bool = False

    @classmethod
    def over(cls, devices: Any = None, *, shard_parameters: bool = False) -> "Partitioner":
        """Returns a partition over these devices, by default all devices of all processes."""
        devices = np.array(jax.devices() if devices is None else devices)
        return cls(Mesh(devices, (DATA,)), shard_parameters)

    def sharding(self, shape: tuple[int, ...]) -> NamedSharding:
        """Returns the sharding of a parameter of this shape.

        Of the axes whose size the number of devices divides, the longest is split.
        """
        sides = [i for i, side in enumerate(shape) if side % self.mesh.size == 0]
        if not self.shard_parameters or np.prod(shape) < SMALL or not sides:
            return NamedSharding(self.mesh, PartitionSpec())
        longest = max(sides, key=lambda i: shape[i])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, DATA))

    def shardings(self, tree: Any) -> Any:
        """Returns the sharding of each array in a tree."""
        return jax.tree.map(lambda x: self.sharding(jnp.shape(x)), tree)

    def put_batch(self, batch: TrainBatch) -> TrainBatch:
        """Puts this process's part of a batch onto its devices, as a part of the whole batch."""
        sharding = NamedSharding(self.mesh, PartitionSpec(DATA))
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
        )
