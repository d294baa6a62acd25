"""Inference and a training step, compiled for a device that isn't there, and what they take."""

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from machine import versions
from reporting import Grid, add_report_options, publish, say

from m2f_jax.modeling.mask2former import MIN_SIZE, network
from m2f_jax.modeling.parameters import abstract_model, stored_dtype
from m2f_jax.presets import PRESETS, preset
from m2f_jax.training import TrainBatch, TrainState, train_step
from m2f_jax.training.batch import OVERLAPS
from m2f_jax.training.optimizer import make_optimizer
from m2f_jax.training.partitioning import DATA, Partitioner
from m2f_jax.training.recipes import recipe

DTYPE = "bfloat16"


def parse_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """The command line, with the options that all devices share; refuses what can't be compiled."""
    parser.add_argument("--model", default="swin-large-cityscapes-instance", choices=PRESETS)
    parser.add_argument("--programs", nargs="+", default=tuple(LOWER), choices=LOWER)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), help="of inference")
    parser.add_argument("--batch", type=int, default=1, help="images of inference")
    parser.add_argument("--train-size", type=int, nargs=2, default=(512, 1024))
    parser.add_argument("--train-batch", type=int, help="images of a step")
    parser.add_argument(
        "--remat", action=argparse.BooleanOptionalAction, help="compute blocks again for a gradient"
    )
    add_report_options(parser)
    options = parser.parse_args(arguments)
    if min(*options.size, *options.train_size) < MIN_SIZE:
        parser.error(f"sides are at least {MIN_SIZE}")
    if min(options.batch, options.train_batch) < 1:
        parser.error("--batch and --train-batch are at least 1")
    return options


def partitioner_of(device: Any) -> Partitioner:
    """All on one device, which needn't exist."""
    return Partitioner(Mesh(np.array([device]), (DATA,)))


def place(shapes: Any, partitioner: Partitioner) -> Any:
    """The same shapes, with the shardings of a partition over one device."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.sharding(x.shape)),
        shapes,
    )


def abstract_parameters(module: nnx.Module, dtype: str) -> tuple[nnx.GraphDef, Any]:
    """An abstract module's graph, and its parameters' shapes as inference stores them."""
    graph, state = nnx.split(module)
    parameters = nnx.from_flat_state(
        [
            (path, value.replace(jax.ShapeDtypeStruct(value.shape, stored)))
            for path, value in nnx.to_flat_state(state)
            for stored in [stored_dtype(value, jnp.dtype(dtype))]
        ]
    )
    return graph, nnx.as_pure(parameters)


def lower_inference(options: argparse.Namespace, partitioner: Partitioner) -> jax.stages.Lowered:
    """The last layer's predictions, with parameters as inference stores them."""
    graph, parameters = abstract_parameters(
        abstract_model(preset(options.model).config, DTYPE), DTYPE
    )
    images = jax.ShapeDtypeStruct((options.batch, *options.size, 3), jnp.float32)

    def infer(parameters, images):
        return network(nnx.merge(graph, parameters), images, all_layers=False)

    return jax.jit(infer).lower(*place((parameters, images), partitioner))


def lower_training(options: argparse.Namespace, partitioner: Partitioner) -> jax.stages.Lowered:
    """A whole step of the model's recipe."""
    settings = recipe(options.model)
    config = dataclasses.replace(settings.train, dtype=DTYPE, remat=options.remat)
    graph, state = nnx.split(abstract_model(config.model, config.dtype))

    def step(count, parameters, optimizer, batch, key):
        state = TrainState(
            step=count,
            parameters=parameters,
            optimizer=optimizer,
            average=None,
            skipped=count,
            graph=graph,
            config=config,
            partitioner=partitioner,
        )
        state, metrics = train_step(state, batch, key)
        return state.step, state.parameters, state.optimizer, metrics

    count = jax.ShapeDtypeStruct((), jnp.int32)
    parameters = nnx.as_pure(state)
    optimizer = jax.eval_shape(make_optimizer(config).init, parameters)
    batch, size, segments = options.train_batch, options.train_size, settings.max_segments
    array: Any = jax.ShapeDtypeStruct
    batches = TrainBatch(
        pixel_values=array((batch, *size, 3), np.uint8),
        regions=array((batch, *size), np.uint16),
        members=array((batch, segments, segments + 1 + OVERLAPS), bool),
        labels=array((batch, segments), np.int32),
        valid=array((batch, segments), bool),
        left_out=array((batch,), np.int32),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    arguments = place((count, parameters, optimizer, batches, key), partitioner)
    return jax.jit(step, donate_argnums=(1, 2)).lower(*arguments)


LOWER = {"inference": lower_inference, "training": lower_training}


def compile_program(
    name: str,
    options: argparse.Namespace,
    partitioner: Partitioner,
    describe: Callable[[Any], Mapping[str, Any]],
    flags: Mapping[str, str | bool] | None = None,
) -> dict[str, Any]:
    """One row of the table; `describe` adds what it reads off the compiled program.

    `flags` are XLA's, without dashes.
    """
    say(f"compiling {name}")
    start = time.perf_counter()
    lowered = LOWER[name](options, partitioner)
    traced = time.perf_counter()
    program = lowered.compile(dict(flags or {}))
    compiled = time.perf_counter()
    memory: Any = program.memory_analysis()
    return {
        "program": name,
        "temporaries MiB": memory.temp_size_in_bytes / 2**20,
        "arguments MiB": memory.argument_size_in_bytes / 2**20,
        "peak memory MiB": memory.peak_memory_in_bytes / 2**20,
        **describe(program),
        "trace s": traced - start,
        "compile s": compiled - traced,
    }


def publish_rows(
    benchmark: str,
    device: str,
    options: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    *packages: str,
):
    """Prints the table and writes the files that were asked for."""
    notes = {
        "settings": {
            "model": options.model,
            "dtype": DTYPE,
            "device": device,
            "inference": "{} x {} x {}".format(options.batch, *options.size),
            "training": "{} x {} x {}".format(options.train_batch, *options.train_size),
            "remat": options.remat,
        },
        "versions": versions(*packages),
    }
    grid = Grid.of(f"compiled for {device}", rows)
    publish(options, [grid], notes, {"benchmark": benchmark, **notes, "rows": rows})
