"""What one evaluation of `m2f eval` was asked for."""

from dataclasses import dataclass

from rich.console import Console

from m2f_jax.cli.arguments import EvalCityscapes, EvalCoco, EvalFolder, EvalYtvis
from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.eval.metrics.coco.tool import Tool


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
