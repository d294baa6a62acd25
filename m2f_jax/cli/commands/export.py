"""`m2f export`."""

import dataclasses
import time
from pathlib import Path

from m2f_jax.cli.arguments import Export, parse_batch, parse_size
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.inference.export.exported_file import arrays_file, data_file
from m2f_jax.inference.export.writing import check, export_model
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.pretrained import load

MEBI = 2**20


def run(command: Export) -> int:
    """Exports a model, and prints a summary."""
    start = time.perf_counter()
    size = parse_size(command.size)
    batch = 1 if command.batch is None else parse_batch(command.batch)
    as_onnx = command.file.endswith(".onnx")
    platforms = platforms_of(command, as_onnx=as_onnx)
    beside = data_file(command.file) if as_onnx else arrays_file(command.file)
    files = [Path(command.file), beside]
    check(files, size, command.task, platforms, overwrite=command.overwrite)
    opened = load(command.source, command.dtype, labels=command.labels, revision=command.revision)
    processor = opened.processor
    if command.native:
        processor = dataclasses.replace(processor, shortest_edge=None, longest_edge=None)
    segmenter = Segmenter(opened.model, processor)
    if as_onnx:
        from m2f_jax.inference.export.onnx.writing import export_onnx  # needs an extra

        header = export_onnx(
            segmenter,
            command.file,
            size,
            command.task,
            network_only=command.network_only,
            batch=batch,
            license=command.license,
            overwrite=command.overwrite,
        )
        written, size_mib = command.file, Path(command.file).stat().st_size / MEBI
        what = "network alone" if command.network_only else header.task
        many = "any number of images" if header.dynamic_batch else "images"
        about = f"{what} of {many} of {size[0]} x {size[1]} in float32, for ONNX Runtime, OpenVINO"
        if command.license is None:
            about += "\nits metadata state no licence; name one with --license, such as apache-2.0"
    else:
        header = export_model(
            segmenter,
            command.file,
            size,
            command.task,
            platforms=platforms,
            overwrite=command.overwrite,
        )
        weights = arrays_file(command.file)
        written, size_mib = f"{command.file} and {weights}", weights.stat().st_size / MEBI
        about = (
            f"{header.task} of images of {size[0]} x {size[1]} in {header.dtype}, "
            f"for {', '.join(header.platforms)}"
        )
    terminal(errors=False).print(
        f"{command.source} -> {written} ({size_mib:.1f} MiB) in "
        f"{time.perf_counter() - start:.1f} s\n{about}",
    )
    return 0


def platforms_of(command: Export, *, as_onnx: bool) -> list[str]:
    """Returns where a .m2f file is to run, and refuses options of the other format.

    Raises:
        ValueError: the message names the option.
    """
    of_onnx = {
        "--network-only": command.network_only,
        "--batch": command.batch is not None,
        "--license": command.license is not None,
    }
    of_m2f = {"--platforms": command.platforms is not None, "--dtype": command.dtype != "float32"}
    for option, given in (of_m2f if as_onnx else of_onnx).items():
        if given:
            other = "that end with .onnx" if not as_onnx else "other than .onnx"
            raise ValueError(f"{option} is for files {other}, not {command.file}; leave it out")
    if command.batch not in (None, "1", "dynamic") and not command.network_only:
        raise ValueError(
            "--batch N is for the network alone; add --network-only, or say --batch dynamic"
        )
    names = "cuda,tpu,cpu" if command.platforms is None else command.platforms
    return [name.strip() for name in names.split(",") if name.strip()]
