"""What `m2f eval` and `m2f train` left about a model: its scores, and how it was trained.

Both files name folders of the machine that they were written on; of these, only the last part of
the path is kept.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath
from typing import Any

from m2f_jax.config import Task
from m2f_jax.files import read_json
from m2f_jax.plain import from_plain
from m2f_jax.presets import DATA_SETS, PRESETS

HUB_IDS = {preset.hub for preset in PRESETS.values()}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The scores of a model on a data set, as `m2f eval --out` writes them.

    Attributes:
        task: what was evaluated.
        images: the number of images.
        data: the name of the data set.
        split: such as "val"; "" if unknown.
        scores: the scores in percent, by name.
        dtype: what the model computed in.
        digest: a digest of the model and its processor.
    """

    task: Task
    images: int
    data: str
    split: str
    scores: Mapping[str, float]
    dtype: str
    digest: str


def read_results(path: str | os.PathLike) -> Measured:
    """Reads a results.json.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is of predictions in files, or holds no score.
    """
    values = read_json(path)
    if at(values, "settings", "predictions") is not None:
        raise ValueError(f"{path} has scores of predictions in files, not of a model")
    found = {
        "task": at(values, "task"),
        "images": at(values, "images"),
        "dtype": at(values, "settings", "dtype"),
        "digest": at(values, "settings", "model digest"),
        "data": at(values, "settings", "data"),
        "split": "",
        "scores": at(values, "scores"),
    }
    check_there(found, path, "results.json of m2f eval --model")
    scores = found["scores"]
    if not isinstance(scores, Mapping):
        raise ValueError(f"{path}: scores needs an object, not {scores!r:.80}")
    read = {
        name: from_plain(float | None, x, f"{path}: scores.{name}") for name, x in scores.items()
    }
    kinds = {field.name: field.type for field in dataclasses.fields(Measured)}
    plain = {
        name: from_plain(kinds[name], value, f"{path}: {name}")
        for name, value in found.items()
        if name != "scores"
    }
    numbers = {name: score for name, score in read.items() if score is not None}
    if not numbers:
        raise ValueError(f"{path} holds no score that is a number")
    plain["data"], plain["split"] = data_of(plain["data"], at(values, "published"))
    return Measured(**plain, scores=numbers)


def data_of(title: str, published: Any) -> tuple[str, str]:
    """Returns the name of a data set and its split, from its title in a result.

    A result that is comparable with published scores is of a data set of the model zoo.
    """
    place, comma, split = title.rpartition(", ")
    if not comma or not re.fullmatch(r"[\w-]+", split):
        place, split = title, ""
    path = PurePath(place)
    if path.name in SPLITS:
        path, split = path.parent, path.name
    name = at(published, "model")
    if name in PRESETS and at(published, "scores"):
        return DATA_SETS[PRESETS[name].data_set].title, "val"
    return path.name.removesuffix(".json") or "data", split


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """How a model was trained, as `m2f train` keeps it in train.json.

    Attributes:
        recipe: the published model whose recipe it was, or the recipe's file; None for that of
            fine-tuning.
        start: the model or backbone that it started from: a published model's hub id, or the last
            part of another source; None for fresh parameters.
        data: the folder of the images.
        seed: the seed of fresh parameters and of the order of the images.
        steps: the number of steps.
        batch_size: images in a step.
        size: height and width of the crops.
        learning_rate: the rate at the start.
        values: all settings, as plain JSON values.
    """

    recipe: str | None
    start: str | None
    data: str
    seed: int
    steps: int
    batch_size: int
    size: tuple[int, int]
    learning_rate: float
    values: Mapping[str, Any]


def read_run(path: str | os.PathLike) -> TrainingRun:
    """Reads a train.json.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else.
    """
    values = read_json(path)
    found = {
        "data": at(values, "data"),
        "seed": at(values, "seed"),
        "steps": at(values, "settings", "train", "steps"),
        "batch_size": at(values, "settings", "batch_size"),
        "size": at(values, "settings", "augmentation", "size"),
        "learning_rate": at(values, "settings", "train", "optimizer", "learning_rate"),
    }
    check_there(found, path, "train.json of m2f train")
    found |= {"recipe": at(values, "recipe"), "start": at(values, "from")}
    kinds = {field.name: field.type for field in dataclasses.fields(TrainingRun)}
    plain = {
        name: from_plain(kinds[name], value, f"{path}: {name}") for name, value in found.items()
    }
    plain["data"] = last_part(plain["data"])
    if plain["recipe"] is not None:
        plain["recipe"] = last_part(plain["recipe"])
    if plain["start"] is not None and plain["start"] not in HUB_IDS:
        plain["start"] = last_part(plain["start"])
    told = {"recipe": plain["recipe"], "data": plain["data"], "from": plain["start"]}
    return TrainingRun(**plain, values={**values, **told})


def at(values: Any, *keys: str) -> Any:
    """Returns the value at a path of keys through JSON objects; None if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def check_there(found: Mapping[str, Any], path: str | os.PathLike, what: str):
    """Refuses a file that lacks what was looked for.

    Raises:
        ValueError: naming the file and the first value.
    """
    if missing := [name for name, value in found.items() if value is None]:
        raise ValueError(f"{path} is no {what}: it doesn't tell {missing[0]}")


def last_part(path: str) -> str:
    """Returns the last part of a path of any operating system."""
    return PureWindowsPath(path).name or path
