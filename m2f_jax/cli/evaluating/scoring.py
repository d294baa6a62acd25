"""What one evaluation of `m2f eval` was asked for, and how its result is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from m2f_jax.cli.arguments import EvalCityscapes, EvalCoco, EvalFolder, EvalYtvis
from m2f_jax.cli.evaluating.scores import print_scores
from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.eval.analysis.tallies.tally import Tally
from m2f_jax.eval.metrics.coco.tool import Tool
from m2f_jax.eval.report.pictures import Picture, save_pictures
from m2f_jax.eval.report.writing import write_report
from m2f_jax.eval.results.evaluated import Evaluated


@dataclass(frozen=True)
class Scoring:
    """One evaluation.

    Attributes:
        command: the options.
        dataset: the ground truth.
        task: what is scored.
        console: where messages are printed.
    """

    command: EvalCityscapes | EvalCoco | EvalFolder | EvalYtvis
    dataset: Dataset | YtvisDataset
    task: Task
    console: Console

    @property
    def tool(self) -> Tool | None:
        """The tool that --tool names for COCO's numbers.

        Raises:
            ValueError: the task has none.
        """
        tool = self.command.tool if isinstance(self.command, EvalCoco | EvalFolder) else None
        if tool is not None and self.task != "instance":
            raise ValueError(f"--tool {tool} computes AP; --task {self.task} has no such tool")
        return tool

    @property
    def boundary(self) -> bool:
        """Whether Boundary AP is computed too."""
        return isinstance(self.command, EvalCoco) and self.command.boundary

    @property
    def unit(self) -> str:
        """What messages call an item of the data set."""
        return "video" if isinstance(self.dataset, YtvisDataset) else "image"

    def show(self, evaluated: Evaluated, draw: Callable[[Tally], Sequence[Picture]]):
        """Prints the table of scores, and writes the report if there is an output folder.

        Args:
            evaluated: the result.
            draw: returns the report's pictures, chosen by the scores of single images.
        """
        print_scores(evaluated.result, evaluated.published)
        if (out := self.command.out) is None:
            return
        assert evaluated.analysis is not None
        pictures = draw(evaluated.analysis.tally)
        save_pictures(Path(out), pictures)
        write_report(
            Path(out, "report.html"),
            evaluated.result,
            evaluated.analysis,
            title=f"{evaluated.task.capitalize()} segmentation of {evaluated.settings['data']}",
            settings={**evaluated.settings, **evaluated.provenance},
            published=evaluated.published,
            pictures=pictures,
        )
        self.console.print(f"results are in {out}")
