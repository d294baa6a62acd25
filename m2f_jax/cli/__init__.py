"""The command line, `m2f`: one module per subcommand, imported when it runs."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from m2f_jax.cli.arguments import Convert, Info, Predict

USER_ERROR = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `m2f` with the given arguments, by default the process's; returns the exit code.

    0: all went well. 1: something failed, and a line on standard error says what, where and what to
    do. 2: the arguments are wrong.
    """
    command = tyro.extras.subcommand_cli_from_dict(
        {"predict": Predict, "convert": Convert, "info": Info},
        prog="m2f",
        description="Mask2Former in JAX: segment images, convert checkpoints.",
        args=arguments,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.HelptextFromCommentsOff,
        ),
    )
    logging.basicConfig(format="m2f: %(message)s", level=logging.WARNING)
    try:
        return runner(command)(command)
    except (ValueError, OSError) as error:
        print(f"m2f: {describe(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("m2f: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def runner(command: Predict | Convert | Info) -> Callable:
    """The function behind a subcommand."""
    use_compilation_cache()
    if isinstance(command, Predict):
        from m2f_jax.cli.predict import run
    elif isinstance(command, Convert):
        from m2f_jax.cli.convert import run
    else:
        from m2f_jax.cli.info import run
    return run


def describe(error: Exception) -> str:
    """An error as one message; operating system errors name their file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def use_compilation_cache():
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "m2f-jax", "xla")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
