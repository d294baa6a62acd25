"""What one evaluation of `m2f eval` was asked for."""

from dataclasses import dataclass

from rich.console import Console

from m2f_jax.cli.arguments import EvalCityscapes, EvalCoco, EvalFolder, EvalImages, EvalYtvis
from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.eval.metrics.coco.tool import Tool
from m2f_jax.eval.tasks.choosing import check_boundary


@dataclass(frozen=True)
class Scoring:
    """One evaluation; a ValueError if --boundary asks for a measure that the task hasn't.

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

    def __post_init__(self):
        if self.boundary:
            check_boundary(self.dataset, self.task)

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
        """Whether Boundary PQ or Boundary AP is computed too."""
        return isinstance(self.command, EvalImages) and self.command.boundary

    @property
    def unit(self) -> str:
        """What messages call an item of the data set."""
        return "video" if isinstance(self.dataset, YtvisDataset) else "image"
