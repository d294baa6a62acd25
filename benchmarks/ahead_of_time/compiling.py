"""Inference and a training step, compiled for a device that isn't there, and what they take."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from measuring.machine import versions
from measuring.options import Count, Reported, parse, refusing
from measuring.programs import Program, abstract_parameters, forward_of
from measuring.tables import Table, publish, say

from m2f_jax.bounds import Between
from m2f_jax.config import ModelConfig, VideoMask2FormerConfig
from m2f_jax.modeling.model import MIN_SIZE
from m2f_jax.modeling.parameters import abstract_model
from m2f_jax.presets import preset
from m2f_jax.training import TrainBatch, TrainState, train_step
from m2f_jax.training.batch import OVERLAPS
from m2f_jax.training.optimizer import make_optimizer
from m2f_jax.training.partitioning import DATA, Partitioner
from m2f_jax.training.recipes import recipe

DTYPE = "bfloat16"
TRAINING_FRAMES = 2  # of a clip, in the authors' recipes
Name = Literal["inference", "training"]


@dataclass(frozen=True, kw_only=True)
class Options(Reported):
    """The programs to compile, and their sizes."""

    model: str = "swin-large-cityscapes-instance"
    """A published model."""
    programs: tuple[Name, ...] = get_args(Name)
    """The programs to compile."""
    size: Annotated[tuple[int, int], Between(MIN_SIZE)] = (1024, 2048)
    """Height and width of the images of inference."""
    batch: Count = 1
    """Images of inference, or clips of a video model."""
    frames: Count = 5
    """Frames of a clip at inference; a training step takes two, as the authors' does."""
    train_size: Annotated[tuple[int, int], Between(MIN_SIZE)] = (512, 1024)
    """Height and width of the crops of a training step."""
    train_batch: Count = 1
    """Images of a training step."""
    remat: bool = False
    """Compute blocks again for a gradient."""


Kind = TypeVar("Kind", bound=Options)


def parse_options(kind: type[Kind], arguments: Sequence[str] | None) -> Kind:
    """Returns the options; refuses what can't be compiled."""
    options = parse(kind, arguments)
    with refusing("--model: "):
        preset(options.model)
    return options


def partitioner_of(device: Any) -> Partitioner:
    """Returns a partition that has everything on one device, which needn't exist."""
    return Partitioner(Mesh(np.array([device]), (DATA,)))


def place(shapes: Any, partitioner: Partitioner) -> Any:
    """Returns shapes with the shardings of a partition over one device."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.sharding(x.shape)),
        shapes,
    )


def inference(options: Options, partitioner: Partitioner) -> tuple[jax.stages.Wrapped, Any]:
    """Returns the network and the shapes of its arguments, as inference stores them."""
    config = preset(options.model).config
    graph, parameters = abstract_parameters(abstract_model(config, DTYPE), DTYPE)
    frames = clip_axis(config, options.frames)
    images = jax.ShapeDtypeStruct((options.batch, *frames, *options.size, 3), jnp.float32)
    return forward_of(graph), place((parameters, images), partitioner)


def clip_axis(config: ModelConfig, frames: int) -> tuple[int, ...]:
    """Returns the sizes of the axes between batch and height: of clips, the number of frames."""
    return (frames,) if isinstance(config, VideoMask2FormerConfig) else ()


def training(options: Options, partitioner: Partitioner) -> tuple[jax.stages.Wrapped, Any]:
    """Returns a whole step of the model's recipe, and the shapes of its arguments."""
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
    frames = clip_axis(config.model, TRAINING_FRAMES)
    array: Any = jax.ShapeDtypeStruct
    batches = TrainBatch(
        pixel_values=array((batch, *frames, *size, 3), np.uint8),
        regions=array((batch, *frames, *size), np.uint16),
        members=array((batch, segments, segments + 1 + OVERLAPS), bool),
        labels=array((batch, segments), np.int32),
        valid=array((batch, segments), bool),
        left_out=array((batch,), np.int32),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    arguments = place((count, parameters, optimizer, batches, key), partitioner)
    return jax.jit(step, donate_argnums=(1, 2)), arguments


PROGRAMS = {"inference": inference, "training": training}


def compile_program(
    name: Name,
    options: Options,
    partitioner: Partitioner,
    describe: Callable[[Any], Mapping[str, Any]],
    flags: Mapping[str, str | bool] | None = None,
) -> dict[str, Any]:
    """Returns one row of the table.

    Args:
        name: the program.
        options: the model and the sizes.
        partitioner: the device to compile for.
        describe: returns more columns, from the compiled program.
        flags: XLA's flags, without dashes.
    """
    say(f"compiling {name}")
    function, arguments = PROGRAMS[name](options, partitioner)
    program = Program.compile(function, *arguments, flags=flags)
    return {
        "program": name,
        "temporaries MiB": program.temporaries,
        "arguments MiB": program.arguments,
        "peak memory MiB": program.peak,
        **describe(program.compiled),
        "trace s": program.trace_seconds,
        "compile s": program.compile_seconds,
    }


def publish_rows(
    benchmark: str, device: str, options: Options, rows: Sequence[Mapping[str, Any]], package: str
):
    """Prints the table, and writes the files that were asked for; `package` has the compiler."""
    notes = {
        "settings": {
            "model": options.model,
            "dtype": DTYPE,
            "device": device,
            "inference": "{} x {} x {}".format(options.batch, *options.size),
            "training": "{} x {} x {}".format(options.train_batch, *options.train_size),
            "remat": options.remat,
        },
        "versions": versions(package),
    }
    table = Table.of(f"compiled for {device}", rows)
    publish(options, [table], notes, {"benchmark": benchmark, **notes, "rows": rows})
