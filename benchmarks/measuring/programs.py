"""Programs that are compiled ahead of a call, with the compiler's figures of their memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from m2f_jax.modeling.model import Model, network
from m2f_jax.modeling.parameters import stored_dtype
from measuring.timing import Call, timed

MIB = 2**20


def forward_of(graph: nnx.GraphDef) -> jax.stages.Wrapped:
    """Returns the network or a stage of it as a jitted function of parameters and inputs."""

    def forward(parameters: Any, inputs: Any) -> Any:
        module = nnx.merge(graph, parameters)
        if isinstance(module, Model):
            return network(module, inputs, all_layers=False)
        return module(inputs)

    return jax.jit(forward)


def abstract_parameters(module: nnx.Module, dtype: str) -> tuple[nnx.GraphDef, Any]:
    """Returns an abstract module's graph, and its parameters' shapes as inference stores them."""
    graph, state = nnx.split(module)
    parameters = nnx.from_flat_state(
        [
            (path, value.replace(jax.ShapeDtypeStruct(value.shape, stored)))
            for path, value in nnx.to_flat_state(state)
            for stored in [stored_dtype(value, jnp.dtype(dtype))]
        ]
    )
    return graph, nnx.as_pure(parameters)


@dataclass(frozen=True)
class Program:
    """A compiled program, and the seconds of tracing and of compiling it."""

    compiled: jax.stages.Compiled
    trace_seconds: float
    compile_seconds: float

    @classmethod
    def compile(
        cls, function: jax.stages.Wrapped, *arguments: Any, flags: Mapping[str, Any] | None = None
    ) -> "Program":
        """Returns the program of a jitted function.

        Args:
            function: the function to compile.
            arguments: arrays, or their shapes with the devices that they will be on.
            flags: XLA's flags, without dashes.
        """
        lowered, traced = timed(function.lower, *arguments)
        compiled, seconds = timed(lowered.compile, dict(flags or {}))
        return cls(compiled, traced, seconds)

    def call(self, *arguments: Any) -> Call:
        """Returns a call with arrays."""
        return Call(lambda: self.compiled(*arguments), jax.block_until_ready)

    @property
    def memory(self) -> Any:
        """The compiler's plan of memory, in bytes."""
        return self.compiled.memory_analysis()

    @property
    def temporaries(self) -> float:
        """MiB beside the arguments."""
        return self.memory.temp_size_in_bytes / MIB

    @property
    def arguments(self) -> float:
        """MiB of parameters, images and whatever else is given."""
        return self.memory.argument_size_in_bytes / MIB

    @property
    def peak(self) -> float:
        """MiB of arguments, results and temporaries together."""
        return self.memory.peak_memory_in_bytes / MIB
