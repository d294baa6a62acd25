"""The settings of a training run: the recipe with the command's changes, kept in train.json."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.cli.arguments import Train, parse_size
from m2f_jax.cli.environment.dtype import dtype_of
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.files import read_json, write_json
from m2f_jax.plain import from_plain, to_plain
from m2f_jax.pretrained import load
from m2f_jax.training.recipes import Recipe, fine_tuning, recipe

SETTINGS_FILE = "train.json"
FROM = ("from", "from_")  # a field's name in JSON and in Python, where the word is taken
WORKERS = 4  # per processor; more only take memory


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the result of a training run.

    Attributes:
        recipe: the name or the file that the command named; None if it named none.
        data: the folder.
        from_: the model to start from.
        seed: the seed of fresh parameters, of the order of the images and of their changes.
        settings: the recipe with the command's changes.
        invalid: what became of annotations that can't be used.
    """

    recipe: str | None
    data: str
    from_: str | None
    seed: Annotated[int, Between(0, 2**32 - 1)]
    settings: Recipe
    invalid: Invalid = "refuse"

    def __post_init__(self):
        check_bounds(self, "")

    @classmethod
    def of(cls, chosen: Recipe, command: Train) -> "Settings":
        """Returns the settings of a command."""
        return cls(
            recipe=command.recipe,
            data=command.data,
            from_=command.from_,
            seed=command.seed,
            settings=chosen,
            invalid=command.invalid,
        )

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Reads what `save` wrote, also with version 0.1.

        Raises:
            ValueError: the file is damaged; the message names the field.
        """
        values = read_json(path)
        if isinstance(values, Mapping):
            values = {FROM[1] if name == FROM[0] else name: x for name, x in values.items()}
        return from_plain(cls, values, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain JSON values."""
        return {FROM[0] if name == FROM[1] else name: x for name, x in to_plain(self).items()}

    def keep(self, out: Path):
        """Writes the settings into the output folder, or finds the same there.

        Raises:
            FileExistsError: the folder holds another training run, or checkpoints of an unknown
                one.
            ValueError: the file there is damaged.
        """
        path = out / SETTINGS_FILE
        if not path.exists():
            if any(out.glob("checkpoints/*")):
                raise FileExistsError(
                    f"{out} holds checkpoints, but no {SETTINGS_FILE} that says of which training "
                    "run; name another --out, or remove them"
                )
            write_json(path, self.to_dict())
            return
        there = self.load(path)
        if there != self:
            raise FileExistsError(
                f"{out} holds a training run with other settings "
                f"({difference(there.to_dict(), self.to_dict())}); name another --out, or give the "
                "same settings to go on with it"
            )


def difference(there: Any, now: Any, where: str = "") -> str:
    """Returns the first value in which two settings differ, for people."""
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        for name in {**there, **now}:
            if there.get(name) != now.get(name):
                return difference(there.get(name), now.get(name), f"{where}.{name}".lstrip("."))
    return f"{where} was {there}, and is {now}"


def chosen_recipe(command: Train) -> Recipe:
    """Returns the recipe that the command names, or the one to fine-tune the model of --from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such recipe; or none is named, and no trained model either.
    """
    if command.recipe is not None:
        chosen = recipe(command.recipe)
    elif command.from_ is None:
        raise ValueError(
            "name a RECIPE, such as swin-tiny-coco-instance; or with --from a trained model, to "
            "fine-tune it on your classes"
        )
    else:
        try:
            model = load(command.from_, revision=command.revision).config
        except ValueError as error:
            raise ValueError(
                f"{error}; without a RECIPE, --from has to be a trained model"
            ) from error
        settings: dict[str, Any] = {}
        if command.size is not None:
            settings["size"] = parse_size(command.size)
        if command.steps is not None:
            settings["steps"] = command.steps
        chosen = fine_tuning(model, **settings)
    if command.task is None:
        return chosen
    model = dataclasses.replace(chosen.train.model, task=command.task)
    return dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, model=model))


def with_overrides(chosen: Recipe, command: Train) -> Recipe:
    """Returns the recipe with the changes that the command line asks for."""

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    optimizer = dataclasses.replace(
        chosen.train.optimizer, **given(learning_rate=command.learning_rate)
    )
    train = dataclasses.replace(
        chosen.train,
        optimizer=optimizer,
        dtype=dtype_of(command.dtype),
        remat=command.remat,
        **given(
            steps=command.steps,
            accumulate=command.accumulate,
            average_decay=command.average_decay,
        ),
    )
    augmentation = chosen.augmentation
    if command.size is not None:
        augmentation = dataclasses.replace(augmentation, size=parse_size(command.size))
    return dataclasses.replace(
        chosen,
        train=train,
        augmentation=augmentation,
        keep_empty_images=command.keep_empty_images or chosen.keep_empty_images,
        **given(batch_size=command.batch_size),
    )


def check_machine(chosen: Recipe, command: Train):
    """Refuses what this machine's devices and processors can't share.

    Raises:
        ValueError: naming the option.
    """
    for count, what in ((jax.device_count(), "devices"), (chosen.train.accumulate, "parts")):
        if chosen.batch_size % count:
            raise ValueError(
                f"--batch-size {chosen.batch_size} can't be shared by {count} {what}; choose a "
                f"multiple of {count}"
            )
    processors = os.cpu_count() or 1
    if command.workers > WORKERS * processors:
        raise ValueError(
            f"--workers must be from 0 to {WORKERS * processors} on this machine's {processors} "
            f"processors, not {command.workers}"
        )
