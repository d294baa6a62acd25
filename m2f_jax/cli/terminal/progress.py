"""Progress over images or videos: a live bar on a terminal, now and then a line elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 30


class ImageProgress:
    """Counts images; at the end it says how many a second there were.

    The first image's time is told apart, since the network is compiled then.
    """

    def __init__(self, verb: str, total: int, console: Console, unit: str = "image"):
        self.total, self.console, self.unit = total, console, unit
        self.done, self.seen = 0, 0
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

    def advance(self, *, ok: bool = True):
        """One more image is done, or failed."""
        now = time.perf_counter()
        self.seen += 1
        if ok:
            self.done += 1
            if self.done == 1:
                self.first = now
        self.bar.update(self.row, advance=1, rate=self.rate(now))
        if not self.console.is_terminal and now - self.last_line > LINE_SECONDS:
            self.last_line = now
            counts = f"{self.seen} of {self.total} {self.unit}s"
            self.console.print(", ".join(filter(None, [counts, self.rate(now)])))

    def rate(self, now: float) -> str:
        """Images a second since the first one was done."""
        return f"{(self.done - 1) / (now - self.first):.2f} {self.unit}s/s" if self.done > 1 else ""

    def __exit__(self, *error: object):
        self.bar.__exit__(None, None, None)
        if self.done:
            now = time.perf_counter()
            images = f"{self.done} {self.unit}{'s' if self.done > 1 else ''}"
            line = f"{images} in {now - self.start:.1f} s, the first after "
            line += f"{self.first - self.start:.1f} s"
            self.console.print(line + (f", then {self.rate(now)}" if self.done > 1 else ""))
