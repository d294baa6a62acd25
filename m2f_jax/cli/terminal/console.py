"""Printing of texts that may hold any characters, as names of files and classes do."""

from typing import Any
from unicodedata import category

from rich.console import Console

LOG_FORMAT = "m2f: %(message)s"
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, breaks of lines


def terminal(*, errors: bool = True, quiet: bool = False) -> Console:
    """Returns a console that prints markup and emoji codes as they are, and breaks no lines.

    Args:
        errors: whether it is standard error, which is for all but a command's results.
        quiet: whether it prints nothing.
    """
    return PlainConsole(
        stderr=errors, quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=True
    )


class PlainConsole(Console):
    """A console that shows control characters by their escapes."""

    def print(self, *objects: Any, **options: Any):
        """Prints as rich does, but for control characters."""
        super().print(*(printable(x) if isinstance(x, str) else x for x in objects), **options)


def printable(text: str) -> str:
    r"""Returns the text with its control characters escaped, as "\x1b"; line breaks stay.

    Bytes that aren't text, as in a file's name in another encoding, are escaped too.
    """
    return "".join(
        x.encode("unicode_escape").decode() if x != "\n" and category(x) in UNPRINTABLE else x
        for x in text
    )


def error_text(error: Exception) -> str:
    """Returns an error as one message; operating system errors name their file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
