"""`python -m tests.fuzz --minutes 60`: all fuzz targets for so long, in limited memory."""

import argparse
import importlib
import logging
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz.targets import DOES_NOT_HANG, Target

EXAMPLES_AT_ONCE = 200
MEMORY = 3 * 2**30  # bytes that a target may take beyond what its modules do
LONGEST_REPORT = 6000  # characters of a failure


def find_targets() -> list[Target]:
    """Imports the modules beside this one, and returns their targets."""
    names = [path.stem for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    modules = [importlib.import_module(f"tests.fuzz.{name}") for name in names]
    found = [
        getattr(value, "target", None) for module in modules for value in vars(module).values()
    ]
    return [target for target in found if isinstance(target, Target)]


def limit_memory():
    """Lets this process take `MEMORY` bytes of address space more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_here(target: Target, folder: Path, seconds: float) -> int:
    """Runs a target in this process until the time is over, or it fails; returns the exit code."""
    limit_memory()
    warnings.simplefilter("ignore")  # those of libraries
    logging.disable()
    end = time.monotonic() + seconds
    failed = False
    while time.monotonic() < end and not failed:
        try:
            target.run(folder, EXAMPLES_AT_ONCE, same=False)
        except BaseException:
            failed = True
            print(traceback.format_exc()[-LONGEST_REPORT:])
    print(f"{target.name}: {target.count} examples, {'FAILED' if failed else 'no failures'}")
    return int(failed)


def run_apart(target: Target, folder: Path, seconds: float) -> int:
    """Runs a target in a process of its own; returns 1 if it fails, dies or hangs."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", "--target", target.name]
    command += ["--minutes", str(seconds / 60), "--folder", str(folder)]
    try:
        status = subprocess.run(
            command, check=False, timeout=2 * seconds + 4 * DOES_NOT_HANG.total_seconds()
        ).returncode
    except subprocess.TimeoutExpired:
        status = "no answer"
    if status not in (0, 1):
        print(f"{target.name}: FAILED, {status}; the last example is in {folder}", flush=True)
    return int(status != 0)


def main() -> int:
    """Runs all targets, or one of them; returns 1 if any fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="of all targets together")
    parser.add_argument("--target", help="run only this one, in this process")
    parser.add_argument("--folder", type=Path, help="where examples are written")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    targets = find_targets()
    if options.target:
        [target] = [target for target in targets if target.name == options.target]
        return run_here(target, folder, 60 * options.minutes)
    share = 60 * options.minutes / len(targets)
    failures = 0
    for target in targets:
        own = folder / target.name.replace("::", ".")
        own.mkdir()
        failures += run_apart(target, own, share)
    print(f"{failures} of {len(targets)} targets failed")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
