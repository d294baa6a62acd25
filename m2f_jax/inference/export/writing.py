"""Writes a model as one program from image to segmentation, which runs without the model's code.

The program takes a dictionary of arrays, an image as uint8 [H, W, 3] and, for instances, the least
score; it returns a dictionary of arrays:

    instance: scores [N], best first; labels [N]; queries [N]; masks, bool [N, H, W]; valid [N],
        True for those that count, which come first
    panoptic: segment_map, int32 [H, W]; labels, is_thing, scores and valid [S]; row i is of the
        segment i + 1
    semantic: class_map, int32 [H, W]

Axes: H W the image, N instances, S segments (as many as queries), Q queries, K classes.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import tempfile
import typing
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8
from safetensors.numpy import save_file

from m2f_jax.config import Task
from m2f_jax.inference import postprocess
from m2f_jax.inference.export.exported_file import (
    FORMATS,
    HEADER_FILE,
    PROGRAM_FILE,
    SIDE,
    Header,
    Platform,
    arrays_file,
    digest_of,
)
from m2f_jax.inference.programs.network import predict
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.upsampling import plan_upsampling
from m2f_jax.modeling.model import Model, without_kernels
from m2f_jax.ops.pil_resize import FilterTaps, filter_taps, resize_as_pil
from m2f_jax.sizes import Size
from m2f_jax.structures import Predictions

PLATFORMS = typing.get_args(Platform)


def export_model(
    segmenter: Segmenter,
    path: str | os.PathLike,
    size: Size,
    task: Task | None = None,
    *,
    platforms: Sequence[str] = ("cuda", "tpu", "cpu"),
    top_k: int = 100,
    overwrite: bool = False,
) -> Header:
    """Writes FILE and FILE.safetensors for `ExportedSegmenter` and `m2f predict --model FILE`.

    The program computes what the segmenter computes, with its processor's sizes and thresholds.
    Newer versions of jax can run it for at least six months, older ones mostly if they aren't more
    than three weeks older.

    Args:
        segmenter: the model and its processor.
        path: FILE, usually with the ending .m2f.
        size: height and width of the images.
        task: "instance", "panoptic" or "semantic"; by default what the model was trained for.
        platforms: some of "cpu", "cuda", "rocm" and "tpu"; none of them need be present.
        top_k: the most instances to return.
        overwrite: replace files that are there already.

    Returns:
        The facts that FILE's header states.

    Raises:
        FileExistsError: one of the files is there already.
        ValueError: a size, the task or a platform is impossible.
    """
    task = task or segmenter.config.task
    check([Path(path), arrays_file(path)], size, task, platforms, overwrite=overwrite)
    arrays, program = whole_path(segmenter, size, task, top_k)
    image = jax.ShapeDtypeStruct((*size, 3), np.uint8)
    limit = [jax.ShapeDtypeStruct((), np.float32)] if task == "instance" else []
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}
    with without_folders():
        export = jax.export.export(jax.jit(program), platforms=list(platforms))
        serialized = bytes(export(abstract, image, *limit).serialize())
    header = Header(
        task=task,
        labels=segmenter.config.labels,
        size=size,
        platforms=cast(Any, tuple(platforms)),
        dtype=cast(Any, segmenter.dtype.name),
        jax_version=jax.__version__,
        digest=digest_of(serialized, arrays),
    )
    write(Path(path), header, serialized, arrays)
    return header


@contextlib.contextmanager
def without_folders() -> Iterator[None]:
    """Keeps this machine's folders out of the source lines that a program is annotated with."""
    name = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, name)
    jax.config.update(name, ".*/")
    try:
        yield
    finally:
        jax.config.update(name, before)


def check(
    files: Sequence[Path],
    size: Size,
    task: str | None,
    platforms: Sequence[str],
    *,
    overwrite: bool,
):
    """Refuses arguments of an export, before the work begins.

    Args:
        files: the files that will be written.
        size: as of `export_model`.
        task: as of `export_model`.
        platforms: as of `export_model`.
        overwrite: as of `export_model`.

    Raises:
        FileExistsError: one of the files is there already.
        ValueError: a size, the task or a platform is impossible.
    """
    there = [str(file) for file in files if file.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{' and '.join(there)} exist{'s' if len(there) == 1 else ''} already; name another "
            "file, or overwrite on purpose"
        )
    if not all(side in SIDE for side in size):
        raise ValueError(
            f"size is height and width in pixels, each {SIDE}, not {size[0]} x {size[1]}"
        )
    if task not in (None, *typing.get_args(Task)):
        raise ValueError(f"task is instance, panoptic or semantic, not {task!r}")
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise ValueError(
            f"platforms are some of {', '.join(PLATFORMS)}, not {', '.join(unknown) or 'none'}"
        )


def whole_path(
    segmenter: Segmenter,
    size: Size,
    task: Task,
    top_k: int,
    prepare: Callable[[Model], Model] = without_kernels,
    *,
    batched: bool = False,
) -> tuple[dict[str, np.ndarray], Callable[..., dict[str, Array]]]:
    """Returns the arrays of the program, its first argument, and the program as a pure function.

    Args:
        segmenter: the model and its processor.
        size: height and width of the images.
        task: "instance", "panoptic" or "semantic".
        top_k: the most instances to return.
        prepare: returns the model with operators that can be exported.
        batched: take images, uint8 [B, H, W, 3], and return arrays with an axis of them.
    """
    processor, config = segmenter.processor, segmenter.config
    image_size = processor.size_of(size)
    is_thing = processor.is_thing(config.num_classes)

    taps = map(filter_taps, size, image_size.resized, image_size.padded)
    rows, columns = (FilterTaps(*map(jnp.asarray, x)) for x in taps)
    graph, _ = nnx.split(prepare(nnx.merge(segmenter.graph, segmenter.parameters)))

    def network(parameters: Any, images: UInt8[Array, "B H W 3"]) -> Predictions:
        resized = jax.vmap(lambda image: resize_as_pil(image, rows, columns))(images)
        inside = jnp.broadcast_to(jnp.array(image_size.resized, jnp.int32), (images.shape[0], 2))
        return predict(graph, processor.mean, processor.std, parameters, resized, inside)

    shapes = jax.eval_shape(
        network, segmenter.parameters, jax.ShapeDtypeStruct((1, *size, 3), np.uint8)
    )
    logits_size: Size = shapes.mask_logits.shape[2:]
    plan_of = processor.score_plan if task == "semantic" else plan_upsampling
    plan = plan_of(logits_size, image_size, size)
    leaves, tree = jax.tree.flatten_with_path((segmenter.parameters, {"upsampling": plan}))
    names = [jax.tree_util.keystr(path[1:], simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(x) for name, (_, x) in zip(names, leaves, strict=True)}

    def segment(
        arrays: dict[str, Array], image: UInt8[Array, "*B H W 3"], *limit: Float[Array, ""]
    ) -> dict[str, Array]:
        parameters, more = jax.tree.unflatten(tree, [arrays[name] for name in names])
        finish_one = functools.partial(finish, more["upsampling"], limit)
        if batched:
            return jax.lax.map(finish_one, network(parameters, image))
        return finish_one(Predictions(*(x[0] for x in network(parameters, image[None]))))

    def finish(up: Any, limit: Sequence[Float[Array, ""]], logits: Predictions) -> dict[str, Array]:
        if task == "instance":
            found = postprocess.instances(*logits, up, *limit, top_k=top_k)
            return instance_table(found, size, is_thing, *limit)
        if task == "panoptic":
            return segment_table(processor.compute_panoptic(*logits, up, is_thing), size, is_thing)
        return {"class_map": cropped(processor.compute_semantic(*logits, up), size)}

    return arrays, segment


def cropped(canvas: Int[Array, "_ _"], size: Size) -> Int[Array, "H W"]:
    """Returns a map without the canvas around it."""
    return canvas[: size[0], : size[1]].astype(jnp.int32)


def instance_table(
    found: postprocess.Instances,
    size: Size,
    is_thing: Bool[np.ndarray, "K"],
    limit: Float[Array, ""],
) -> dict[str, Array]:
    """Returns things that reach the limit in the order of `ImageProcessor.order`, then the rest."""
    valid = (found.scores >= limit) & jnp.asarray(is_thing)[found.labels]
    order = jnp.argsort(jnp.where(valid, -found.scores, jnp.inf), stable=True)
    height, width = size
    packed = found.packed_masks[found.masks[order]][:, :height]
    return {
        "scores": found.scores[order],
        "labels": found.labels[order].astype(jnp.int32),
        "queries": found.queries[order].astype(jnp.int32),
        "masks": jnp.unpackbits(packed, axis=-1, count=width).astype(bool),
        "valid": valid[order],
    }


def segment_table(
    found: postprocess.Panoptic, size: Size, is_thing: Bool[np.ndarray, "K"]
) -> dict[str, Array]:
    """Returns the map and a row for each of its segments, whose ids count from 1."""
    ids = jnp.arange(1, len(found.segment_ids) + 1)
    member = found.segment_ids == ids[:, None]
    valid = member.any(axis=1)
    labels = jnp.where(valid, found.labels[member.argmax(axis=1)], 0)
    scores = jnp.where(member, found.scores, 0).max(axis=1)
    return {
        "segment_map": cropped(found.segment_map, size),
        "labels": labels.astype(jnp.int32),
        "is_thing": jnp.asarray(is_thing)[labels] & valid,
        "scores": scores,
        "valid": valid,
    }


def write(path: Path, header: Header, program: bytes, arrays: dict[str, np.ndarray]):
    """Writes both files, which appear when they are complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"format": max(FORMATS), **dataclasses.asdict(header)}
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
        new, new_arrays = Path(folder, "program"), Path(folder, "arrays")
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(HEADER_FILE, json.dumps(values, indent=2) + "\n")
            archive.writestr(PROGRAM_FILE, program)
        digests = {"digest": header.digest, "file": hashlib.sha256(new.read_bytes()).hexdigest()}
        # safetensors writes an array's memory as it is, whatever its order of axes.
        in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        save_file(in_order, new_arrays, metadata=digests)
        new_arrays.chmod(new.stat().st_mode)  # safetensors gives them to the user alone
        new_arrays.replace(arrays_file(path))
        new.replace(path)
