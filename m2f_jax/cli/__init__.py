"""The command line, `m2f`: one module per subcommand, imported when it runs."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `m2f` with the given arguments, by default the process's; returns the exit code.

    0: all went well. 1: something failed, and a line on standard error says what, where and what to
    do. 2: the arguments are wrong. 130: it was interrupted, perhaps while modules were imported.
    """
    try:
        from m2f_jax.cli.commands import run  # takes a while, in which an interruption may come

        return run(arguments)
    except KeyboardInterrupt:
        print("m2f: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
