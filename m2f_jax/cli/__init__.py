"""The command line, `m2f`: one module per subcommand, imported when it runs."""

import atexit
import gc
import os
import sys
from collections.abc import Sequence

from m2f_jax.cli.environment.huge_pages import start_with_huge_pages
from m2f_jax.cli.terminal.interruption import INTERRUPTED, MESSAGE, ending_at_once

COLLECT_AFTER = 50_000  # objects: by default, looking for garbage takes a tenth of a short run
NOT_READ = 141  # the exit code that shells give a program that SIGPIPE ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `m2f` with the given arguments, by default the process's; returns the exit code.

    Exit codes: 0 for success; 1 for a failure, about which a line on standard error says what,
    where and what to do; 2 for wrong arguments; 130 for an interruption; 141 if the reader of
    standard output, such as `head`, has gone.
    """
    if arguments is None and sys.argv[1:2] == ["train"]:
        start_with_huge_pages()
    gc.set_threshold(COLLECT_AFTER)
    atexit.register(gc.freeze)  # or an ending process would look through a million objects, twice
    try:
        with ending_at_once():
            from m2f_jax.cli.running import run  # here, where an interruption may come
        try:
            return run(arguments)
        finally:
            sys.stdout.flush()  # here, where a reader that is gone is noticed
    except BrokenPipeError:
        # Drops what is left in the buffer, or Python would complain as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_READ
    except KeyboardInterrupt:
        print(MESSAGE, file=sys.stderr)
        return INTERRUPTED
