"""Runs what `m2f export FILE.onnx` wrote, by ONNX Runtime or OpenVINO on a CPU.

Its metadata has the facts of the model under `m2f_jax`, as a `.m2f` file has them in its header.
The file isn't trusted: before a runtime opens it, its inputs and outputs are compared with these
facts, and files that refer to other files or need operators other than ONNX's are refused.
"""

import hashlib
import importlib
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.config import Task
from m2f_jax.files import parse_json
from m2f_jax.inference.export.exported_file import SIDE, data_file
from m2f_jax.inference.export.one_size import ExportedInput, OneSizeSegmenter
from m2f_jax.inference.export.onnx.openvino import import_openvino
from m2f_jax.labels import Label
from m2f_jax.plain import from_plain

SUFFIX = ".onnx"
KEY = "m2f_jax"
FORMAT = 1
MAX_FILE = 2**31  # bytes, which is what ONNX itself allows
Runtime = Literal["onnxruntime", "openvino"]
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
Arrays = Mapping[str, tuple[type, tuple[int | str | None, ...]]]  # dtype and shape by name


@dataclass(frozen=True, kw_only=True)
class OnnxHeader:
    """The facts of an ONNX file.

    Attributes:
        task: "instance", "panoptic" or "semantic".
        labels: the classes, in the order of the class indices.
        size: height and width of the images, or with `network_only` of the network's input.
        network_only: whether it is the network without what comes before and after.
        dynamic_batch: whether it takes any number of images at a time.
        top_k: the most instances to return.
        object_mask_threshold: the least score of a panoptic segment.
        overlap_threshold: the least part of its own mask that a panoptic segment owns.
        mean: of the pixels, in the order RGB, as the network expects them normalised.
        std: likewise.
        license: of the weights, by the hub's name, where somebody said it.
    """

    task: Task
    labels: tuple[Label, ...]
    size: Annotated[tuple[int, int], SIDE]
    network_only: bool
    dynamic_batch: bool = False
    top_k: Annotated[int, Between(1, 1_000_000)]
    object_mask_threshold: Annotated[float, Between(0, 1)]
    overlap_threshold: Annotated[float, Between(0, 1)]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: str | None = None

    def __post_init__(self):
        check_bounds(self, "")
        if not self.labels:
            raise ValueError("labels is empty")


def inputs_of(header: OnnxHeader) -> Arrays:
    """Returns dtype and shape of each input; "N" stands for the number of images."""
    if header.dynamic_batch:
        inputs: Arrays = {"images": (np.uint8, ("N", *header.size, 3))}
    else:
        inputs = {"image": (np.uint8, (*header.size, 3))}
    return inputs | ({"threshold": (np.float32, ())} if header.task == "instance" else {})


def outputs_of(header: OnnxHeader) -> Arrays:
    """Returns dtype and shape of each result.

    "N" stands for the number of images, and None for a number that the file chooses.
    """
    size = header.size
    one: Arrays = {
        "instance": {
            "labels": (np.int32, (None,)),
            "masks": (np.bool_, (None, *size)),
            "queries": (np.int32, (None,)),
            "scores": (np.float32, (None,)),
            "valid": (np.bool_, (None,)),
        },
        "panoptic": {
            "is_thing": (np.bool_, (None,)),
            "labels": (np.int32, (None,)),
            "scores": (np.float32, (None,)),
            "segment_map": (np.int32, size),
            "valid": (np.bool_, (None,)),
        },
        "semantic": {"class_map": (np.int32, size)},
    }[header.task]
    if not header.dynamic_batch:
        return one
    return {name: (dtype, ("N", *shape)) for name, (dtype, shape) in one.items()}


def read_header(path: Path) -> OnnxHeader:
    """Returns the facts in the metadata of a file of m2f export, once all of it is checked.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it isn't such a file, is damaged, or of a newer format; or a field is invalid,
            which the message names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; m2f export writes such a file")
    if (size := path.stat().st_size) > MAX_FILE:
        raise ValueError(f"{path} has {size} bytes, more than an ONNX file can; export it again")
    try:
        model = onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"{path} isn't an ONNX file, or is damaged; export it again") from error
    found = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if len(found) != 1:
        raise ValueError(
            f"{path} has {len(found)} entries {KEY} in its metadata, and m2f predict reads files "
            "that m2f export wrote; export the model with m2f export"
        )
    where = f"{path}: metadata.{KEY}"
    text: str | bytes = found[0]  # bytes where it is no UTF-8
    values = parse_json(text.encode() if isinstance(text, str) else text, where)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ValueError(
            f"{where} isn't of format {FORMAT}; upgrade m2f-jax, or export the model again"
        )
    header = from_plain(OnnxHeader, values, where)
    check_model(path, model, header)
    return header


def check_model(path: Path, model: onnx.ModelProto, header: OnnxHeader):
    """Refuses a file that differs from its header, or refers to other files.

    Raises:
        ValueError: the message names what differs.
    """
    again = "export the model again with m2f export"
    if others := sorted({text(x.domain) for x in model.opset_import} - {"", "ai.onnx"}):
        raise ValueError(f"{path} needs operators of {others[0]!r:.80}, not ONNX's own; {again}")
    if model.functions:
        raise ValueError(f"{path} defines functions of its own; {again}")
    for tensor in tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = next((x.value for x in tensor.external_data if x.key == "location"), "")
            if location != data_file(path).name:
                raise ValueError(
                    f"{path}: the weights {tensor.name!r:.80} lie in {location!r:.80} instead of "
                    f"{path.name}.data; {again}"
                )
            if not data_file(path).is_file():
                raise FileNotFoundError(
                    f"{data_file(path)} is missing, which has the weights of {path.name}; keep "
                    "both files together"
                )
    if header.network_only:
        raise ValueError(
            f"{path} is the network alone (--network-only), for pipelines of your own; export it "
            "without that option for m2f predict"
        )
    for kind, declared, wanted in (
        ("input", model.graph.input, inputs_of(header)),
        ("output", model.graph.output, outputs_of(header)),
    ):
        there = {text(x.name): x.type.tensor_type for x in declared}
        if set(there) != set(wanted) or len(declared) != len(wanted):
            raise ValueError(
                f"{path}: the {kind}s are {', '.join(there)[:200]}, and those of "
                f"{header.task} are {', '.join(wanted)}; {again}"
            )
        for name, (dtype, shape) in wanted.items():
            said = there[name]
            sides = [
                d.dim_value if d.HasField("dim_value") else text(d.dim_param)
                for d in said.shape.dim
            ]
            fits = len(sides) == len(shape) and all(
                (isinstance(a, int) and a > 0) if b is None else a == b
                for a, b in zip(sides, shape, strict=True)
            )
            if not fits or said.elem_type != onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)):
                raise ValueError(
                    f"{path}: the {kind} {name} has the shape {sides!s:.200}, and by its header it "
                    f"is {np.dtype(dtype).name} {['any' if n is None else n for n in shape]}; "
                    f"{again}"
                )


def text(name: str | bytes) -> str:
    """Returns a name of a file, which protobuf gives as bytes where it isn't UTF-8."""
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Returns all stored arrays of a graph and of those in its nodes."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += attribute.tensors
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found += tensors(inner)
    return found


def open_onnxruntime(path: Path, precision: str, names: Sequence[str]) -> Run:
    """Opens a file with ONNX Runtime, which computes in float32 on a CPU."""
    if precision != "float32":
        raise ValueError(f"onnxruntime computes in float32, not {precision}; take openvino")
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: dict(zip(names, session.run(list(names), dict(inputs)), strict=True))


def open_openvino(path: Path, precision: str, names: Sequence[str]) -> Run:
    """Opens a file with OpenVINO on a CPU, in float32 or bfloat16."""
    hints = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision]}
    compiled = import_openvino().Core().compile_model(str(path), "CPU", hints)

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        found = compiled(dict(inputs))
        return {name: found[name] for name in names}

    return run


OPEN: dict[str, Callable[[Path, str, Sequence[str]], Run]] = {
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
}


class OnnxSegmenter(OneSizeSegmenter):
    """A model in a file of `m2f export FILE.onnx`, run by a runtime of the user's choice.

    Attributes:
        path: its file.
        header: its task, classes, image size and more.
        dtype: "float32" or "bfloat16".
        batch_size: the number of images that it computes at a time.
    """

    def __init__(self, path: Path, header: OnnxHeader, run: Run, dtype: str, batch_size: int = 1):
        super().__init__(path, header)
        self.dtype = dtype
        self.batch_size = batch_size
        self._run = run

    @property
    def capacity(self) -> int:
        """The number of images that `submit` takes at a time."""
        return self.batch_size

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        runtime: Runtime = "onnxruntime",
        dtype: Literal["float32", "bfloat16"] = "float32",
        batch_size: int = 1,
    ) -> "OnnxSegmenter":
        """Opens what `export_onnx` or `m2f export` wrote.

        Args:
            path: the file.
            runtime: "onnxruntime" or "openvino".
            dtype: of the computation; bfloat16 is OpenVINO's alone.
            batch_size: images at a time; more than one if the file takes any number of them.

        Raises:
            FileNotFoundError: the file is missing.
            ImportError: the runtime isn't installed.
            ValueError: it isn't such a file, is damaged, or the runtime can't read it; or it takes
                one image at a time.
        """
        path = Path(path)
        if runtime not in OPEN:
            raise ValueError(f"runtime is {' or '.join(typing.get_args(Runtime))}, not {runtime!r}")
        header = read_header(path)
        if batch_size < 1 or (batch_size > 1 and not header.dynamic_batch):
            raise ValueError(
                f"the batch size is {batch_size}, and {path} takes one image at a time; export the "
                "model again with --batch dynamic for any number of them"
            )
        try:
            run = OPEN[runtime](path, dtype, list(outputs_of(header)))
        except (ImportError, ValueError):
            raise
        except Exception as error:  # the runtimes have many kinds
            raise ValueError(f"{path}: {runtime} can't read it ({last_line(error)})") from error
        return cls(path, header, run, dtype, batch_size)

    @property
    def digest(self) -> str:
        """The SHA-256 of the file, and of FILE.data where it is there."""
        found = hashlib.sha256()
        for path in filter(Path.is_file, (Path(self.path), data_file(Path(self.path)))):
            with open(path, "rb") as file:
                while part := file.read(2**20):
                    found.update(part)
        return found.hexdigest()

    def start(self, batch: Sequence[ExportedInput], limit: np.float32) -> list[Mapping[str, Any]]:
        """Segments up to `batch_size` images.

        Raises:
            ValueError: the runtime fails, or a result has another dtype or shape than declared.
        """
        more = {"threshold": np.asarray(limit)} if self.header.task == "instance" else {}
        pixels = [image.pixels for image in batch]
        if not self.header.dynamic_batch:
            return [self._segment({"image": np.ascontiguousarray(x)} | more) for x in pixels]
        found = self._segment({"images": np.stack(pixels)} | more)
        return [{name: x[i] for name, x in found.items()} for i in range(len(batch))]

    def _segment(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        try:
            found = {name: np.asarray(x) for name, x in self._run(inputs).items()}
        except Exception as error:
            raise ValueError(f"{self.path} can't be run ({last_line(error)})") from error
        lengths: dict[Any, int] = {"N": len(inputs.get("images", ()))}
        for name, (dtype, shape) in outputs_of(self.header).items():
            there = found[name]
            if there.dtype != dtype or any(
                lengths.get(b, b) not in (a, None) for a, b in zip(there.shape, shape, strict=True)
            ):
                raise ValueError(f"{self.path}: {name} came out as {there.dtype} {there.shape}")
        classes = found.get("labels", found.get("class_map"))
        if classes is not None and not (
            classes.min(initial=0) >= 0 and classes.max(initial=0) < len(self.header.labels)
        ):
            raise ValueError(
                f"{self.path}: metadata.{KEY}.labels names {len(self.header.labels)} classes, and "
                f"the program found number {classes.max()}; export the model again with m2f export"
            )
        return found


def last_line(error: Exception) -> str:
    """Returns the last line of a runtime's error, cut if it is long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
