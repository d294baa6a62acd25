"""Times a model beside the files that m2f export writes of it, on a CPU, in one run.

    python benchmarks/export.py --size 512 1024 --preset swin-tiny-coco-instance

The model in the package from an image to what each task makes of it, and the network alone of a
published model with random weights. Calls of all sides take turns. README.md beside this file says
what each row means.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from measuring.agreement import compare
from measuring.images import draw_images
from measuring.machine import check_installed, describe_run, limit_threads, share_device
from measuring.options import Compared, Size, compared, parse, refusing
from measuring.processes import in_a_process
from measuring.records import OURS, Comparison, Row
from measuring.tables import say
from measuring.timing import take_turns
from peers import OPENVINO, side
from peers.networks.settings import Settings
from peers.weights import HUGGING_FACE, save_random_weights

from m2f_jax import InstanceSegmentation, PanopticSegmentation
from m2f_jax.bounds import Between
from m2f_jax.config import ModelConfig, Task
from m2f_jax.presets import preset
from m2f_jax.streets import street_scene

SEED = 11  # of the street
LEAST_EQUAL = 0.999  # of all pixels of a map, in float32
SHOWN = 0.5  # the least score of instances that are compared
PROGRAM = "its .m2f"
RESULTS: Mapping[Task, str] = {
    "panoptic": "panoptic map",
    "semantic": "semantic map",
    "instance": "100 instances",
}
Runtime = Literal["onnxruntime", "openvino"]
RUNTIMES: Mapping[str, tuple[Runtime, Literal["float32", "bfloat16"]]] = {  # by their columns
    "its ONNX file, ONNX Runtime": ("onnxruntime", "float32"),
    "its ONNX file, OpenVINO": ("openvino", "float32"),
    "its ONNX file, OpenVINO bfloat16": ("openvino", "bfloat16"),
}
THEIRS = {
    "transformers, OpenVINO": "float32",
    "transformers, OpenVINO bfloat16": "bfloat16",
}


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Time a model beside the files that m2f export writes of it, on a CPU, in one run."""

    rows: tuple[Literal["path", "network"], ...] = ("path", "network")
    """path: the built-in model from an image to a task's result; network: a network alone."""
    size: Size = (512, 1024)
    """Height and width of the image."""
    preset: str = "swin-tiny-coco-instance"
    """A published model, whose network is timed alone."""
    network_size: Size = (384, 384)
    """Height and width of that network's input."""
    transformers: bool = True
    """Also time transformers' network through OpenVINO, beside the network alone."""
    threads: Annotated[int | None, Between(1)] = None
    """Processors that every side may use; by default all."""


def path(task: Task, options: Options, folder: Path) -> tuple[Row, dict[str, float]]:
    """Returns the row of the path from an image to a task's result, and how equal the results are.

    Raises:
        SystemExit: a file's result in float32 is another one.
    """
    from m2f_jax import ExportedSegmenter, Segmenter, export_model, export_onnx
    from m2f_jax.inference.export.onnx.running import OnnxSegmenter

    with refusing("--size: "):
        image = street_scene(SEED, 0, options.size).image
    say(f"the model, {task}")
    segmenter = Segmenter.from_pretrained("streets", "float32")
    program, onnx = folder / f"{task}.m2f", folder / f"{task}.onnx"
    export_model(segmenter, program, options.size, task, platforms=["cpu"])
    export_onnx(segmenter, onnx, options.size, task)
    sides: dict[str, Callable[..., Any]] = {
        OURS: functools.partial(segmenter, task=task),
        PROGRAM: ExportedSegmenter.load(program),
    }
    for name, (runtime, dtype) in RUNTIMES.items():
        sides[name] = OnnxSegmenter.load(onnx, runtime, dtype)
    found = {name: pixels_of(segment(image)) for name, segment in sides.items()}
    agreement = {}
    for name in list(sides)[1:]:
        equal = float(np.mean(found[name] == found[OURS]))
        if equal < LEAST_EQUAL and "bfloat16" not in name:
            raise SystemExit(f"{task}: of {name}, {100 * equal:.2f} % of the pixels are equal")
        agreement[f"{task}, {name}, equal pixels, %"] = 100 * equal
    calls = {name: functools.partial(segment, image) for name, segment in sides.items()}
    title = "image to {}, {} x {}".format(RESULTS[task], *options.size)
    return Row.timed(title, take_turns(calls, options.repeats)), agreement


def pixels_of(found: Any) -> np.ndarray:
    """Returns a segmentation as a map; of sure instances, the best one's class, or -1."""
    if isinstance(found, InstanceSegmentation):
        classes = np.full(found.size, -1)
        for i in np.flatnonzero(found.scores >= SHOWN)[::-1]:
            classes[found.masks[i]] = found.labels[i]
        return classes
    return found.segment_map if isinstance(found, PanopticSegmentation) else found


def network(options: Options, config: ModelConfig, folder: Path) -> tuple[Row, dict[str, float]]:
    """Returns the row of the network alone, and how far its logits are apart.

    Raises:
        SystemExit: one of the sides in float32 is another function.
    """
    from m2f_jax import Segmenter, export_onnx
    from m2f_jax.inference.export.onnx.running import OPEN

    say(f"the network of {options.preset}")
    in_a_process(save_random_weights, config, folder, JAX_PLATFORMS="cpu")
    settings = Settings(options.network_size, threads=options.threads)
    ours = side(OURS, "Network")(folder / HUGGING_FACE, settings)
    file = folder / "network.onnx"
    export_onnx(
        Segmenter(ours.model, ours.processor), file, options.network_size, network_only=True
    )
    pixels = ours.processor(draw_images(1, options.network_size)).pixel_values
    pixels = np.ascontiguousarray(pixels)
    inputs, names = {"pixel_values": pixels}, ("class_logits", "mask_logits")
    calls: dict[str, Callable[[], Any]] = {OURS: ours.network(pixels)}
    for name, (runtime, dtype) in RUNTIMES.items():
        calls[name] = functools.partial(run, OPEN[runtime](file, dtype, names), inputs, names)
    for name, dtype in (THEIRS if options.transformers else {}).items():
        theirs = side(OPENVINO, "Network")
        peer = theirs(folder / HUGGING_FACE, settings._replace(dtype=dtype))
        calls[name] = functools.partial(peer.predictions, pixels)
    expected, agreement = tuple(calls[OURS]()), {}
    for name in list(calls)[1:]:
        found = compare(expected, calls[name](), exact="bfloat16" not in name)
        agreement |= {f"{name}, {key}": value for key, value in found.items()}
    title = "network of {}, {} x {}".format(options.preset, *options.network_size)
    return Row.timed(title, take_turns(calls, options.repeats)), agreement


def run(
    file: Callable[..., Mapping[str, np.ndarray]],
    inputs: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> list[np.ndarray]:
    """Returns the outputs of an opened file, in order."""
    found = file(inputs)
    return [found[name] for name in names]


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints one table."""
    options = parse(Options, arguments)
    check_installed(["onnx", *([OPENVINO] if options.transformers else [])])
    with refusing("--preset: "):
        config = preset(options.preset).config
    share_device("cpu")
    options = dataclasses.replace(options, threads=limit_threads(options.threads))
    packages = ("onnx", "onnxruntime", "openvino", "torch", "transformers")
    notes = describe_run({"median of": options.repeats}, *packages)
    comparison = Comparison("export", options, compared(options, "cpu"), notes)
    rows, agreement = [], {}
    with tempfile.TemporaryDirectory() as folder:
        if "path" in options.rows:
            for task in RESULTS:
                row, found = path(task, options, Path(folder))
                rows.append(row)
                agreement |= found
        if "network" in options.rows:
            row, found = network(options, config, Path(folder))
            rows.append(row)
            agreement |= found
    comparison.publish("a model and its files on a CPU", rows, notes={"agreement": agreement})


if __name__ == "__main__":
    main()
