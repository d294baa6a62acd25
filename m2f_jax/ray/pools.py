"""Actors on a Ray cluster, one for each device, and the work that is given to them."""

import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions

RETRIES = 5  # of one batch whose actor ended; an image that always ends it isn't tried for ever


def connect(address: str):
    """Connects this process to a cluster, which prints nothing of its own here.

    Args:
        address: where the cluster is: "auto" for the one of this machine, HOST:PORT,
            ray://HOST:PORT, or "local" to start one on this machine, which ends with this process.

    Raises:
        ValueError: no cluster answers.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host:  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(
            address, ignore_reinit_error=True, logging_level=logging.ERROR, log_to_driver=False
        )
    except Exception as error:  # of all kinds, and a bare one where a machine is slow
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"no Ray cluster answers at {address} ({reason}); start one with ray start --head, or "
            "name local to start one for this run. One that asks for a token has that of "
            "RAY_AUTH_TOKEN, or of ~/.ray/auth_token, where RAY_AUTH_MODE is token"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Pool:
    """The number of actors, and what each of them takes.

    Attributes:
        actors: the number of actors.
        cpus: the processors of each, as Ray counts them.
        gpus: the GPUs of each.
        others: further resources of each, such as {"TPU": 1}.
    """

    actors: int
    cpus: float = 1
    gpus: float = 0
    others: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_cluster(cls, actors: int | None = None) -> "Pool":
        """Returns a pool with an actor for each GPU, else for each TPU chip, else for each machine.

        On machines without accelerators, the actors take half of the processors; the others are
        for tasks that read.

        Args:
            actors: how many instead.
        """
        there = ray.cluster_resources()
        if gpus := int(there.get("GPU", 0)):
            return cls(actors or gpus, gpus=1)
        if chips := int(there.get("TPU", 0)):
            return cls(actors or chips, others={"TPU": 1})
        actors = actors or sum(node["Alive"] for node in ray.nodes())
        share = there.get("CPU", 1) / actors / 2
        return cls(actors, cpus=share if share < 1 else int(share))

    @property
    def has_accelerators(self) -> bool:
        """Whether actors run on GPUs or TPUs."""
        return bool(self.gpus or self.others)


def table_of(rows: Mapping[str, Sequence[str]], size: int) -> ray.data.Dataset:
    """Returns rows that are known here as a dataset.

    Args:
        rows: their values, by the names of columns.
        size: the rows of a block.
    """
    table = pa.table({name: pa.array(values, pa.string()) for name, values in rows.items()})
    return ray.data.from_arrow(
        [table.slice(start, size) for start in range(0, table.num_rows, size)]
    )


def on_actors(
    dataset: ray.data.Dataset, kind: type, arguments: Sequence[Any], pool: Pool, size: int
) -> Iterator[dict[str, Any]]:
    """Yields the rows of the tables that actors make of a dataset's batches, as they are ready.

    An actor that ends before its time is started again, and gets its batch again.

    Args:
        dataset: the rows.
        kind: a class whose instances are actors: they take a table of rows and return another.
        arguments: the arguments of its constructor.
        pool: the actors.
        size: the rows of a batch.

    Raises:
        ValueError, OSError: what an actor raised.
        RuntimeError: actors end again and again.
    """
    with warnings.catch_warnings():
        # The retries have no other place before Ray 2.64, which pyproject.toml leaves out.
        warnings.simplefilter("ignore", DeprecationWarning)
        made = dataset.map_batches(
            kind,
            batch_size=size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=pool.actors),
            fn_constructor_args=arguments,
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
            resources=pool.others or None,
            max_task_retries=RETRIES,
        )
    try:
        yield from made.iter_rows()
    except Exception as error:
        raise cause_of(error) from error


def in_task(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a function returns on a machine of the cluster, which needs no device there.

    Raises:
        ValueError, OSError: what it raised.
    """
    task = ray.remote(num_cpus=0, runtime_env={"env_vars": {"JAX_PLATFORMS": "cpu"}})(function)
    try:
        return ray.get(task.remote(*arguments))
    except ray.exceptions.RayError as error:
        raise cause_of(error) from error


def cause_of(error: BaseException) -> BaseException:
    """Returns what was raised on another machine, without what Ray wraps around it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError | ValueError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    if isinstance(error, ray.exceptions.RayError):
        line = str(error).strip().splitlines()[0]
        return RuntimeError(f"the cluster gave up ({line}); run the same again to go on")
    return error
