"""The categories of a data set that a model's classes stand for."""

from collections.abc import Sequence

import numpy as np

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.labels import Label


def matched_labels(
    labels: Sequence[Label], dataset: Dataset | YtvisDataset, task: Task
) -> tuple[Label, ...]:
    """Returns the category of each of a model's classes: the one of exactly the same name.

    For the instance task, stuff is as in the model, which never predicts it.

    Raises:
        ValueError: a class isn't among the categories, or Cityscapes' stuff is evaluated and the
            model wasn't trained for it.
    """
    by_name = {category.name: category for category in dataset.categories}
    scored = [label for label in labels if label.is_thing or task != "instance"]
    if not scored:
        raise ValueError("the model knows no things; its instance segmentation would be empty")
    unknown = [label.name for label in scored if label.name not in by_name]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the model's {len(scored)} classes aren't among those of "
            f"{dataset.title}: {', '.join(unknown[:5])}; theirs are "
            f"{', '.join(list(by_name)[:5])} ..."
        )
    if dataset.rules == "cityscapes" and task != "instance" and all(x.is_thing for x in labels):
        raise ValueError(f"the model knows things only; its {task} segmentation would be empty")
    return tuple(by_name.get(label.name, label) for label in labels)


def ids_of(labels: Sequence[Label]) -> np.ndarray:
    """Returns the id of each class."""
    return np.array([label.id for label in labels], int)
