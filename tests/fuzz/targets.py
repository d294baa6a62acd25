"""What a fuzz target is: a reader, hostile files for it, and the ways in which it may fail.

pytest runs a few examples of each target, always the same ones. `python -m tests.fuzz` runs all of
them for a given time, each in a process of its own whose memory is limited.
"""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis.strategies import SearchStrategy

EXAMPLES = 25  # of each target in an ordinary run of the tests
DOES_NOT_HANG = datetime.timedelta(seconds=30)  # an example may take as long
LONGEST_MESSAGE = 2000  # characters

Check = Callable[[Any, Path], None]


class Target:
    """A check of a reader, and the examples that it is given."""

    def __init__(self, check: Check, examples: SearchStrategy):
        self.check, self.examples = check, examples
        self.name = f"{check.__module__.rpartition('.')[2]}::{check.__name__}"
        self.count = 0

    def run(self, folder: Path, examples: int, *, same: bool):
        """Runs a number of examples, and raises what the first faulty one raised.

        Args:
            folder: where the examples' files are written. What the last example wrote stays there,
                also if the process dies.
            examples: how many to run, at the most.
            same: whether every call is to run the same ones.
        """

        def run_one(example: Any):
            self.count += 1
            self.check(example, folder)

        settings = hypothesis.settings(
            max_examples=examples,
            derandomize=same,
            deadline=DOES_NOT_HANG,
            database=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
        )
        settings(hypothesis.given(self.examples)(run_one))()


def fuzz(examples: SearchStrategy) -> Callable[[Check], Callable[[Path], None]]:
    """Makes a fuzz target, which is also a pytest test, of a function of (example, folder).

    The function writes the example into a file of the folder, and reads it `refused_by_name`.
    """

    def make(check: Check) -> Callable[[Path], None]:
        target = Target(check, examples)

        def test(tmp_path: Path):
            target.run(tmp_path, EXAMPLES, same=True)

        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        vars(test)["target"] = target
        return test

    return make


@contextlib.contextmanager
def refused_by_name(path: Path) -> Iterator[None]:
    """Lets a reader refuse a file: with a documented error, which names it and is short."""
    message = path.name
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
    assert path.name in message
    assert len(message) <= LONGEST_MESSAGE
