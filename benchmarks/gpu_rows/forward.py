"""The network and its stages."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from measuring.programs import Program, abstract_parameters, forward_of
from measuring.timing import Call

from gpu_rows.suite.job import Figures, Job, Measuring, describe_size, figure, time_call
from gpu_rows.suite.kernel_times import kernel_times
from gpu_rows.windows.forms import forms, patched
from m2f_jax import Mask2Former, Model
from m2f_jax.modeling.parameters import abstract_model
from m2f_jax.sizes import Size

WHOLE, DTYPE = "whole forward", "bfloat16"


class Part(NamedTuple):
    """The network or a stage of it."""

    program: Program
    call: Call


def parts_of(model: Model) -> dict[str, Any]:
    """Returns the network and its stages by name."""
    return {
        WHOLE: model,
        "backbone": model.backbone,
        "pixel decoder": model.pixel_decoder,
        "Transformer decoder": model.decoder,
    }


def load_parts(
    job: Job, batch: int, size: Size, *, stages: bool = False, form: Callable | None = None
) -> dict[str, Part]:
    """Returns the network and its stages in bfloat16, with the weights in place.

    They are compiled before the weights are there.

    Args:
        job: the row's job.
        batch: images at a time.
        size: the images' height and width.
        stages: whether to load each stage by itself, too.
        form: the form of attention in windows; by default the package's.
    """
    device = job.jax_device()
    sharding = jax.sharding.SingleDeviceSharding(device)

    def there(tree: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    shape = (batch, *size, 3)
    model = abstract_model(job.scale.config, DTYPE)
    inputs: dict[str, Any] = {WHOLE: jax.ShapeDtypeStruct(shape, jnp.float32)}
    if stages:
        inputs["backbone"] = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
        for before, name in itertools.pairwise(
            ("backbone", "pixel decoder", "Transformer decoder")
        ):
            stage = parts_of(model)[before]
            inputs[name] = jax.eval_shape(lambda stage, x: stage(x), stage, inputs[before])
    programs = {}
    for name, shapes in inputs.items():
        graph, parameters = abstract_parameters(parts_of(model)[name], DTYPE)
        with patched(form):
            programs[name] = Program.compile(forward_of(graph), there(parameters), there(shapes))
    with jax.default_device(device):
        modules = parts_of(Mask2Former.from_pretrained(job.weights(), DTYPE))
    rng = np.random.default_rng(0)
    parts = {}
    for name, program in programs.items():
        parameters = jax.device_put(nnx.as_pure(nnx.split(modules[name])[1]), device)
        arrays = jax.tree.map(
            lambda x: jax.device_put(
                jnp.asarray(rng.standard_normal(x.shape, np.float32), x.dtype), device
            ),
            inputs[name],
        )
        parts[name] = Part(program, program.call(parameters, arrays))
        parts[name].call()
    return parts


def time_parts(parts: Mapping[str, Part], batch: int, size: Size) -> Figures:
    """Returns a figure in milliseconds for each, and of more than one image also for one."""
    figures, where = [], describe_size(batch, size)
    for name, part in parts.items():
        found = time_call(f"{name}, {where}", part.call)
        figures.append(found)
        if batch > 1:
            figures.append(figure(f"{name}, {where}, of one image", found["value"] / batch, "ms"))
    program = parts[WHOLE].program
    seconds = program.trace_seconds + program.compile_seconds
    return [
        *figures,
        figure(f"temporaries, {where}", program.temporaries, "MiB"),
        figure(f"compiling, {where}", seconds, "s"),
    ]


def measure(job: Job, form: str | None = None) -> Measuring:
    """Measures the forward pass of one image: the package's with its stages, or with one form."""
    size, chosen = job.scale.size, None if form is None else forms(job.device)[form]
    parts = load_parts(job, 1, size, stages=form is None, form=chosen)
    yield
    return time_parts(parts, 1, size), {}


def measure_batches(job: Job) -> Measuring:
    """Measures the forward pass of several images at a time."""
    scale = job.scale
    cases = ((scale.batch, scale.size), (scale.small_batch, scale.small))
    parts = {case: load_parts(job, *case) for case in cases}
    yield
    return [line for case, found in parts.items() for line in time_parts(found, *case)], {}


def profile(job: Job) -> Measuring:
    """Lists the kernels of the forward pass of one image, by time."""
    part = load_parts(job, 1, job.scale.size)[WHOLE]
    yield
    return [], {"kernels": kernel_times(part.call, 3)}
