"""Compiles inference and a training step for a TPU that isn't there, and shows what they take.

    pip install 'm2f-jax[tpu,train]'
    python benchmarks/tpu_aot.py --topology v5e:2x2

The compiler comes with libtpu and needs no TPU, so this says that the programs compile for one chip
and how much of its memory they take, and nothing about their speed: the compiler's own estimates
leave gathers out. It fails if inference takes more than 2 GiB of temporaries. The last line is the
table as JSON.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from m2f_jax.model import MIN_SIZE, abstract_model, network, stored_dtype
from m2f_jax.presets import PRESETS, preset
from m2f_jax.training import TrainBatch, TrainState, train_step
from m2f_jax.training.batch import OVERLAPS
from m2f_jax.training.optimizer import make_optimizer
from m2f_jax.training.recipes import recipe
from m2f_jax.training.step import DATA, Layout

MOST_TEMPORARIES = 2 * 2**30  # bytes, of inference
PROGRAMS = ("inference", "training")


def place(shapes: Any, layout: Layout) -> Any:
    """The same shapes, lying as a layout of one device has them."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.of_array(x.shape)), shapes
    )


def lower_inference(model: str, size: tuple[int, int], layout: Layout) -> Any:
    """The last layer's predictions of one image, with parameters as inference stores them."""
    graph, state = nnx.split(abstract_model(preset(model).config, "bfloat16"))
    stored = [
        (path, stored_dtype(".".join(map(str, path)), jnp.dtype("bfloat16")), value)
        for path, value in nnx.to_flat_state(state)
    ]
    parameters = nnx.from_flat_state(
        [
            (path, value.replace(jax.ShapeDtypeStruct(value.shape, dtype)))
            for path, dtype, value in stored
        ]
    )
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)

    def infer(parameters, images):
        return network(nnx.merge(graph, parameters), images, all_layers=False)

    return jax.jit(infer).lower(*place((nnx.as_pure(parameters), images), layout))


def lower_training(model: str, size: tuple[int, int], batch: int, layout: Layout) -> Any:
    """A whole step of the model's recipe, with `remat`."""
    settings = recipe(model)
    config = dataclasses.replace(settings.train, dtype="bfloat16", remat=True)
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
            layout=layout,
        )
        state, metrics = train_step(state, batch, key)
        return state.step, state.parameters, state.optimizer, metrics

    count = jax.ShapeDtypeStruct((), jnp.int32)
    parameters = nnx.as_pure(state)
    optimizer = jax.eval_shape(make_optimizer(config).init, parameters)
    segments = settings.max_segments
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
    arguments = place((count, parameters, optimizer, batches, key), layout)
    return jax.jit(step, donate_argnums=(1, 2)).lower(*arguments)


def compile_program(name: str, lower: Callable[[], Any]) -> dict[str, Any]:
    """One row of the table."""
    start = time.perf_counter()
    lowered = lower()
    traced = time.perf_counter()
    memory = lowered.compile().memory_analysis()
    compiled = time.perf_counter()
    return {
        "program": name,
        "temporaries": memory.temp_size_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "peak memory": memory.peak_memory_in_bytes,
        "program size": memory.generated_code_size_in_bytes,
        "trace s": traced - start,
        "compile s": compiled - traced,
    }


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; refuses what can't be compiled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--topology", default="v5e:2x2", help="such as v6e:2x2; one chip is used")
    parser.add_argument("--model", default="swin-large-cityscapes-instance", choices=PRESETS)
    parser.add_argument("--programs", nargs="+", default=PROGRAMS, choices=PROGRAMS)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), help="of inference")
    parser.add_argument("--train-size", type=int, nargs=2, default=(512, 1024))
    parser.add_argument("--train-batch", type=int, default=1, help="images of a chip in a step")
    options = parser.parse_args(arguments)
    sides = (*options.size, *options.train_size)
    if min(sides) < MIN_SIZE or options.train_batch < 1:
        parser.error(f"sides are at least {MIN_SIZE}, --train-batch at least 1")
    return options


def one_chip(topology: str) -> Layout:
    """A chip of a topology that needn't exist."""
    # A second process may load the library; there is no cloud to ask for a chip.
    os.environ.update(ALLOW_MULTIPLE_LIBTPU_LOAD="1", TPU_SKIP_MDS_QUERY="1")
    if importlib.util.find_spec("libtpu") is None:
        raise SystemExit("tpu_aot.py needs TPU's compiler: pip install 'm2f-jax[tpu]'")
    jax.config.update("jax_platforms", "cpu")
    chips = topologies.get_topology_desc(topology, platform="tpu").devices
    return Layout(Mesh(np.array(chips[:1]), (DATA,)))


def main(arguments: list[str] | None = None):
    """Compiles everything and prints one table."""
    options = parse_options(arguments)
    layout = one_chip(options.topology)
    lower = {
        "inference": lambda: lower_inference(options.model, tuple(options.size), layout),
        "training": lambda: lower_training(
            options.model, tuple(options.train_size), options.train_batch, layout
        ),
    }
    rows = []
    for name in options.programs:
        print(f"compiling {name}", file=sys.stderr)
        rows.append(compile_program(name, lower[name]))
    versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}
    title = f"{options.model}, bfloat16, for one chip of {options.topology}"
    caption = ", ".join(["sizes in MiB", *(" ".join(x) for x in versions.items())])
    table = Table(title=title, caption=caption)
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "program" else "right")
    for row in rows:
        table.add_row(*(show(column, x) for column, x in row.items()))
    Console().print(table)
    settings = {name.replace("_", " "): value for name, value in vars(options).items()}
    print(json.dumps({**settings, "versions": versions, "rows": rows}))
    for row in rows:
        if row["program"] == "inference" and row["temporaries"] > MOST_TEMPORARIES:
            raise SystemExit("inference takes more than 2 GiB of temporaries")


def show(column: str, value: Any) -> str:
    """A cell of the table."""
    if column == "program":
        return value
    return f"{value:.0f}" if column.endswith(" s") else f"{value / 2**20:,.0f}"


if __name__ == "__main__":
    main()
