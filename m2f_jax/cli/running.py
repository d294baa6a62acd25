"""Runs one command: reads its arguments, checks its options, and prints its errors."""

import dataclasses
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import tyro

from m2f_jax.bounds import check_bounds
from m2f_jax.cli.arguments import (
    App,
    Convert,
    Eval,
    Export,
    Info,
    Models,
    Predict,
    Push,
    Streets,
    Train,
)
from m2f_jax.cli.environment.cache import cache_folder
from m2f_jax.cli.environment.extras import missing_extra
from m2f_jax.cli.terminal.console import LOG_FORMAT, error_text, printable
from m2f_jax.cli.terminal.interruption import ending_at_once
from m2f_jax.pixel_limit import set_max_pixels

USER_ERROR = 1
COMMANDS = {
    "predict": Predict,
    "app": App,
    "eval": Eval,
    "train": Train,
    "convert": Convert,
    "export": Export,
    "info": Info,
    "models": Models,
    "push": Push,
    "streets": Streets,
}


def run(arguments: Sequence[str] | None) -> int:
    """Runs a command as `main` says, except that it lets interruptions through."""
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="m2f",
        description="Mask2Former in JAX: segment images; train, evaluate, convert, export models.",
        args=arguments,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.HelptextFromCommentsOff,
        ),
    )
    logging.basicConfig(format=LOG_FORMAT, level=logging.WARNING)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on damaged metadata
    use_compilation_cache()
    [name] = (name for name, kind in COMMANDS.items() if isinstance(command, kind))
    try:
        take_options(command)
        with ending_at_once():
            module = importlib.import_module(f"m2f_jax.cli.commands.{name}")
        return module.run(command)
    except BrokenPipeError:
        raise  # of standard output, which `main` handles
    except (ValueError, OSError) as error:
        print(f"m2f: {printable(error_text(error))}", file=sys.stderr)
        return USER_ERROR
    except ImportError as error:
        what = missing_extra(error, name)
        if what is None:
            raise
        print(f"m2f: {printable(what)}", file=sys.stderr)
        return USER_ERROR


def take_options(command: Any):
    """Refuses what an option can't have, and sets the limit of pixels.

    Raises:
        ValueError: the message names the option.
    """
    check_bounds(command, "", lambda field: "--" + field.rstrip("_").replace("_", "-"))
    for value in vars(command).values():
        if dataclasses.is_dataclass(value):
            take_options(value)
    out = getattr(command, "out", None)
    if out and "://" in out and not getattr(command, "parquet", False):
        raise ValueError(
            f"{out} is a URI, which only m2f predict with --ray and --parquet writes to; elsewhere "
            "name a folder, such as one where the bucket is mounted"
        )
    if hasattr(command, "max_pixels"):
        set_max_pixels(command.max_pixels)


def use_compilation_cache():
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another one.

    By default JAX keeps programs that took a second or more to compile. Here all are kept: those
    of resizing and post-processing take less, and every size of images needs its own.
    """
    folder = cache_folder()
    if folder is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "xla"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
