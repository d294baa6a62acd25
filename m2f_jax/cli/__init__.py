"""The command line, `m2f`: one module per subcommand, imported when it runs."""

import sys
from collections.abc import Sequence

from m2f_jax.cli.terminal.interruption import INTERRUPTED, MESSAGE, ending_at_once


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `m2f` with the given arguments, by default the process's; returns the exit code.

    0: all went well. 1: something failed, and a line on standard error says what, where and what to
    do. 2: the arguments are wrong. 130: it was interrupted.
    """
    try:
        with ending_at_once():
            from m2f_jax.cli.commands import run  # here, where an interruption may come
        return run(arguments)
    except KeyboardInterrupt:
        print(MESSAGE, file=sys.stderr)
        return INTERRUPTED
