"""Fresh processes, which share no memory, compiled programs or devices with this one."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

M2F = "import sys; from m2f_jax.cli import main; sys.exit(main())"


def in_a_process(function: Callable[..., Any], *arguments: Any, **environment: str) -> Any:
    """Returns what a function returns in a fresh process, without a cache of compiled programs.

    What the function raises is raised here. `environment` is added to that of the process.
    """
    spawn = multiprocessing.get_context("spawn")
    with mock.patch.dict(os.environ), ProcessPoolExecutor(1, mp_context=spawn) as process:
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        os.environ.update(environment)
        return process.submit(function, *arguments).result()


def m2f(*arguments: Any, **environment: str):
    """Runs the command line `m2f`; what it prints goes to stderr.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-P", "-c", M2F, *map(str, arguments)]
    if subprocess.run(command, env=os.environ | environment, stdout=2, check=False).returncode:
        raise SystemExit(f"failed, see above: m2f {' '.join(command[4:])}")
