"""The command line, `m2f`: one module per subcommand, imported when it runs."""

import dataclasses
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from m2f_jax.bounds import check_bounds
from m2f_jax.cli.arguments import Convert, Eval, Export, Info, Predict, Streets, Train

USER_ERROR = 1
COMMANDS = {
    "predict": Predict,
    "eval": Eval,
    "train": Train,
    "convert": Convert,
    "export": Export,
    "info": Info,
    "streets": Streets,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `m2f` with the given arguments, by default the process's; returns the exit code.

    0: all went well. 1: something failed, and a line on standard error says what, where and what to
    do. 2: the arguments are wrong.
    """
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
    logging.basicConfig(format="m2f: %(message)s", level=logging.WARNING)
    use_compilation_cache()
    [name] = (name for name, kind in COMMANDS.items() if isinstance(command, kind))
    try:
        check_options(command)
        return importlib.import_module(f"m2f_jax.cli.{name}").run(command)
    except (ValueError, OSError) as error:
        print(f"m2f: {describe(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("m2f: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def check_options(command: Any):
    """Refuses numbers that an option can't have.

    Raises:
        ValueError: the message names the option.
    """
    check_bounds(command, "", lambda field: "--" + field.rstrip("_").replace("_", "-"))
    for value in vars(command).values():
        if dataclasses.is_dataclass(value):
            check_options(value)


def describe(error: Exception) -> str:
    """An error as one message; operating system errors name their file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def use_compilation_cache():
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "m2f-jax", "xla")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
