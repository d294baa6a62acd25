"""Progress over images or videos: a live bar on a terminal, elsewhere a line every half minute."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 30


class ImageProgress:
    """A counter of images, which prints at the end how many a second there were.

    The time of the first ones is printed apart, since the network is compiled then.
    """

    def __init__(self, verb: str, total: int, console: Console, unit: str = "image"):
        self.total, self.console, self.unit = total, console, unit
        self.done, self.seen, self.at_first = 0, 0, 0
        self.bar = Progress(
            TextColumn(verb),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.row = self.bar.add_task("", total=total, rate="compiling")

    def __enter__(self) -> "ImageProgress":
        self.bar.__enter__()
        self.start = self.first = self.last_line = time.perf_counter()
        return self

    def advance(self, count: int = 1, *, ok: bool = True):
        """Counts one more image, or several that were computed together, as done or failed."""
        now = time.perf_counter()
        self.seen += count
        if ok:
            if not self.done:
                self.first, self.at_first = now, count
            self.done += count
        self.bar.update(self.row, advance=count, rate=self.rate(now))
        if not self.console.is_terminal and now - self.last_line > LINE_SECONDS:
            self.last_line = now
            counts = f"{self.seen} of {self.total} {self.unit}s"
            self.console.print(", ".join(filter(None, [counts, self.rate(now)])))

    def rate(self, now: float) -> str:
        """Returns images a second since the first ones were done; "" if there were no others."""
        more = self.done - self.at_first
        return f"{more / (now - self.first):.2f} {self.unit}s/s" if more else ""

    def __exit__(self, *error: object):
        self.bar.__exit__(None, None, None)
        if self.done:
            now = time.perf_counter()
            images = f"{self.done} {self.unit}{'s' if self.done > 1 else ''}"
            first = "the first" if self.at_first == 1 else f"the first {self.at_first}"
            line = f"{images} in {now - self.start:.1f} s, {first} after "
            line += f"{self.first - self.start:.1f} s"
            self.console.print(line + (f", then {rate}" if (rate := self.rate(now)) else ""))
