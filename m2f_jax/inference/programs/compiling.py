"""Programs that are compiled before their arguments are there, several at a time."""

import concurrent.futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import jax

compilers = ThreadPoolExecutor(8, "compile")
"""Threads in which XLA compiles, or reads what it compiled; it lets Python run meanwhile."""


@runtime_checkable
class Program(Protocol):
    """A compiled function of arrays."""

    def __call__(self, *arguments: Any) -> Any:
        """Runs the program, once it is compiled."""
        ...

    def ahead(self, *arguments: Any) -> Any:
        """Begins to compile the program in a thread, and returns the shapes of what it will return.

        Args:
            arguments: as when called, or `jax.ShapeDtypeStruct`s of them.
        """
        ...


class JittedProgram:
    """A jitted function, which finds by itself what was compiled for it ahead."""

    def __init__(self, function: jax.stages.Wrapped, sharding: Any):
        """Takes a function, and the sharding of all that it returns."""
        self.function, self.sharding = function, sharding
        self._compiling: set[Future[Any]] = set()

    def __call__(self, *arguments: Any) -> Any:
        """Runs the function; of what couldn't be compiled ahead, it raises the error itself."""
        if self._compiling:
            self._compiling -= concurrent.futures.wait(self._compiling).done
        return self.function(*arguments)

    def ahead(self, *arguments: Any) -> Any:
        """Begins to compile, see `Program`."""
        traced = self.function.trace(*arguments)
        self._compiling.add(compilers.submit(traced.lower().compile))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding),
            traced.out_info,
        )


class Chain:
    """Programs that run in turn and are compiled at the same time."""

    def __init__(self, *programs: Program):
        """Takes the programs in order."""
        self.programs = programs

    def __call__(self, parameters: Any, *arrays: Any) -> Any:
        """Runs one after another; each takes the parameters, and what the one before returns."""
        for program in self.programs:
            arrays = (program(parameters, *arrays),)
        return arrays[0]

    def ahead(self, parameters: Any, *arrays: Any) -> Any:
        """Begins to compile all of them, see `Program`."""
        for program in self.programs:
            arrays = (program.ahead(parameters, *arrays),)
        return arrays[0]
