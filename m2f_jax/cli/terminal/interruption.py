"""Interruptions (Ctrl-C) while modules are imported or a process is started."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

INTERRUPTED = 130  # the exit code, as shells have it
MESSAGE = "m2f: interrupted; run the same command again to go on"


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Lets an interruption end the process within this context.

    For imports: a KeyboardInterrupt may become another error in a module that is half imported, or
    be lost in a callback of the garbage collector.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def holding_interruptions() -> Iterator[None]:
    """Lets interruptions wait until this context is left; a process started in it gets none."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker  # here, since all commands import this module

    resource_tracker.ensure_running()  # or it would start with the process, and let them through
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end(*_: Any):
    """Ends the process with the message of an interruption."""
    print(MESSAGE, file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)
