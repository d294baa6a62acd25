"""Huge pages, which spare a long computation on a CPU much of the cost of fresh memory."""

import os
import sys
from pathlib import Path

POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # of Linux
SETTINGS = "GLIBC_TUNABLES"  # of glibc's allocator; read only while a process starts
ASK_FOR_HUGE_PAGES = "glibc.malloc.hugetlb=1"  # another C library doesn't know it, and does nothing


def start_with_huge_pages():
    """Starts this program anew with memory in huge pages, where Linux gives them if asked.

    XLA allocates the temporaries of each training step anew, and Linux clears every page of 4 KiB
    when it is first touched: a quarter of a small model's step. The new program replaces this one:
    its process, arguments, files and terminal stay. Nothing happens where `GLIBC_TUNABLES` is set,
    so that a user's settings are kept, and nothing is started twice.
    """
    try:
        asked_only = "[madvise]" in POLICY.read_text()  # else all memory has them, or none
    except OSError:
        return  # not Linux
    if asked_only and SETTINGS not in os.environ:
        environment = {**os.environ, SETTINGS: ASK_FOR_HUGE_PAGES}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
