"""Writes a model as an ONNX file, for other runtimes.

Its inputs are `image`, uint8 [H, W, 3], and for instances `threshold`, the least score; its outputs
have the names of a `.m2f` file's. For any number of images, its input is `images`,
uint8 [N, H, W, 3], instead, and the outputs have an axis of them, too. With `network_only`, its
input is `pixel_values`, float32 [N, H, W, 3], normalised RGB, and its outputs are
`class_logits` [N, Q, K + 1] and `mask_logits` [N, Q, h, w].
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast

import jax
import numpy as np
import onnx
from flax import nnx
from jax.export import symbolic_shape
from jaxtyping import Array, Float

from m2f_jax.config import Task
from m2f_jax.files import replacing
from m2f_jax.inference.export.exported_file import data_file
from m2f_jax.inference.export.onnx.graph import write_graph
from m2f_jax.inference.export.onnx.operators import OPERATORS
from m2f_jax.inference.export.onnx.running import FORMAT, KEY, OnnxHeader
from m2f_jax.inference.export.onnx.sampling import grid_sample, grid_sample_p, with_grid_samples
from m2f_jax.inference.export.writing import check, whole_path
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.modeling.model import network
from m2f_jax.sizes import Size
from m2f_jax.structures import Predictions

EXTERNAL_FROM = 2**31 - 2**24  # bytes of weights; an ONNX file has less than 2 GiB
MIN_SIDE = 32
NEEDS_NUMBER = (TypeError, jax.errors.InconclusiveDimensionOperation)  # instead of a symbol
WITH_SAMPLES = {**OPERATORS, grid_sample_p.name: grid_sample}


def export_onnx(
    segmenter: Segmenter,
    path: str | os.PathLike,
    size: Size,
    task: Task | None = None,
    *,
    network_only: bool = False,
    batch: int | Literal["dynamic"] = 1,
    top_k: int = 100,
    license: str | None = None,
    overwrite: bool = False,
) -> OnnxHeader:
    """Writes a model as an ONNX file that ONNX Runtime and OpenVINO run.

    It computes what the segmenter computes, in float32, with its processor's sizes and thresholds.
    Weights of more than 2 GB lie beside it in FILE.data.

    Args:
        segmenter: the model and its processor.
        path: the file, usually with the ending .onnx.
        size: height and width of the images, or with `network_only` of the network's input.
        task: "instance", "panoptic" or "semantic"; by default what the model was trained for.
        network_only: write the network without preprocessing and post-processing.
        batch: images at a time: "dynamic" for any number of them, or of the network alone another
            number than 1.
        top_k: the most instances to return.
        license: of the weights, by the hub's name, such as "cc-by-nc-4.0"; for the metadata.
        overwrite: replace a file that is there already.

    Returns:
        The facts in the file's metadata.

    Raises:
        FileExistsError: the file is there already, or FILE.data is.
        ValueError: a size, the batch or the task is impossible, the segmenter isn't in float32, or
            a part of the model uses a primitive that has no ONNX form here.
    """
    task = task or segmenter.config.task
    check((Path(path), data_file(path)), size, task, ["cpu"], overwrite=overwrite)
    if segmenter.dtype != np.float32:
        raise ValueError(
            "an ONNX file is written in float32; leave out --dtype, and let the runtime choose "
            "(--runtime openvino --dtype bfloat16)"
        )
    if network_only and min(size) < MIN_SIDE:
        raise ValueError(f"size is {size[0]} x {size[1]}; a network's input has {MIN_SIDE} or more")
    dynamic = batch == "dynamic"
    if not dynamic and (batch < 1 or (batch > 1 and not network_only)):
        raise ValueError(
            f"batch is {batch}; it is 1 or dynamic, and for the network alone any number above 0"
        )
    processor = segmenter.processor
    count = symbolic_shape("N")[0] if dynamic else batch
    if network_only:
        arrays, program = network_alone(segmenter)
        inputs = {"pixel_values": jax.ShapeDtypeStruct((count, *size, 3), np.float32)}
    else:
        arrays, program = whole_path(
            segmenter, size, task, top_k, with_grid_samples, batched=dynamic
        )
        name, shape = ("images", (count, *size, 3)) if dynamic else ("image", (*size, 3))
        inputs = {name: jax.ShapeDtypeStruct(shape, np.uint8)}
        if task == "instance":
            inputs["threshold"] = jax.ShapeDtypeStruct((), np.float32)
    try:
        model = trace(program, arrays, inputs)
    except NEEDS_NUMBER as error:
        if not dynamic:
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: the model can't be written for any number of images ({reason}); export it "
            "for one"
        ) from error
    except NotImplementedError as error:
        other = "for one image, or " if dynamic else ""
        raise ValueError(
            f"{path}: the model can't be written as ONNX ({error}); export it {other}as .m2f"
        ) from error
    header = OnnxHeader(
        task=task,
        labels=segmenter.config.labels,
        size=size,
        network_only=network_only,
        dynamic_batch=dynamic,
        top_k=top_k,
        object_mask_threshold=processor.object_mask_threshold,
        overlap_threshold=processor.overlap_threshold,
        mean=processor.mean,
        std=processor.std,
        license=license,
    )
    values = json.dumps({"format": FORMAT, **dataclasses.asdict(header)})
    onnx.helper.set_model_props(model, {KEY: values})
    write(Path(path), model)
    return header


def trace(
    program: Callable[..., dict[str, Array]],
    arrays: Mapping[str, np.ndarray],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
) -> onnx.ModelProto:
    """Returns a program of arrays and inputs as an ONNX model."""
    closed, results = jax.make_jaxpr(program, return_shape=True)(arrays, *inputs.values())
    in_order = {name: arrays[name] for name in sorted(arrays)}  # as JAX flattens a dictionary
    return write_graph(closed, WITH_SAMPLES, inputs, sorted(results), in_order)


def network_alone(
    segmenter: Segmenter,
) -> tuple[dict[str, np.ndarray], Callable[..., dict[str, Array]]]:
    """Returns the network's arrays, and the network as a pure function of them and a batch."""
    graph, parameters = nnx.split(
        with_grid_samples(nnx.merge(segmenter.graph, segmenter.parameters))
    )
    leaves, tree = jax.tree.flatten_with_path(parameters)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(x) for name, (_, x) in zip(names, leaves, strict=True)}

    def program(
        arrays: dict[str, Array], pixel_values: Float[Array, "B H W 3"]
    ) -> dict[str, Array]:
        model = nnx.merge(graph, jax.tree.unflatten(tree, [arrays[name] for name in names]))
        predictions = cast(Predictions, network(model, pixel_values, all_layers=False))
        return {
            "class_logits": predictions.class_logits,
            "mask_logits": predictions.mask_logits,
        }

    return arrays, program


def write(path: Path, model: onnx.ModelProto):
    """Writes a file, and large weights beside it, which appear when they are complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if sum(len(x.raw_data) for x in model.graph.initializer) < EXTERNAL_FROM:
        with replacing(path) as new:
            Path(new).write_bytes(model.SerializeToString())
        return
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
        new, data = Path(folder, path.name), data_file(path)
        onnx.save_model(model, new, save_as_external_data=True, location=data.name)
        Path(folder, data.name).replace(data)
        new.replace(path)
