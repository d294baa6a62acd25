"""`m2f app`: a page in the browser."""

import dataclasses
import threading

from m2f_jax.app.engine import Engine
from m2f_jax.app.server import LOOPBACK, launch, make_server
from m2f_jax.cli.arguments import App
from m2f_jax.cli.environment.cache import programs_folder
from m2f_jax.cli.environment.dtype import dtype_of
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.cli.terminal.drawn_streets import advice
from m2f_jax.config import VideoMask2FormerConfig
from m2f_jax.inference.export.exported_file import is_exported
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.pretrained import load

MEBI = 2**20
BUCKET = 128  # pixels


def run(command: App) -> int:
    """Serves until it is interrupted."""
    console = terminal()
    engine = open_engine(command)
    local = command.host in LOOPBACK
    server = make_server(engine, max_bytes=command.max_upload * MEBI, local=local)
    address = launch(server, command.host, command.port)
    who = "only this machine can reach it" if local else "whoever reaches this machine can use it"
    console.print(f"{command.model} is at {address}; {who}. Ctrl-C ends it.")
    if engine.note:
        console.print(engine.note)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        server.get_blocks().close(verbose=False)
    return 0


def open_engine(command: App) -> Engine:
    """Loads the model.

    Raises:
        ValueError: it is one of videos, was exported, or can't be loaded.
    """
    if command.model.endswith(".onnx") or is_exported(command.model):
        raise ValueError(
            f"{command.model} was exported for images of one size and one task, and a page has "
            "any; give m2f app what it was exported from, or run it with m2f predict"
        )
    dtype = dtype_of(command.dtype)
    opened = load(command.model, dtype, labels=command.labels, revision=command.revision)
    if isinstance(opened.config, VideoMask2FormerConfig):
        raise ValueError(f"{command.model} is a model of videos; choose a model of images")
    # Sides in wide steps, so that pictures of all shapes share few compiled programs.
    divisor = max(BUCKET, opened.processor.size_divisor)
    processor = dataclasses.replace(opened.processor, size_divisor=divisor)
    return Engine(
        source=command.model,
        segmenter=Segmenter(opened.model, processor, programs=programs_folder()),
        labels=opened.labels,
        task=opened.config.task,
        note=advice(command.model, "app"),
    )
