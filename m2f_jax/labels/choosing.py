"""A model's classes as people name them: a known data set, or a file of names."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from m2f_jax.files import read_json
from m2f_jax.labels.label import Label, numbered, things
from m2f_jax.labels.published import NAMED_LABELS

MAX_CLASSES = 65_535  # and ids: PNG maps have 16 bits
FORMS = 'names, or objects such as {"id": 1, "name": "cat", "isthing": 1}'

Classes = str | os.PathLike | Sequence[Label]
"""How classes are given: a key of `NAMED_LABELS`, a file for `read_labels`, or the labels."""


def choose_labels(classes: Classes, count: int, where: str | os.PathLike) -> tuple[Label, ...]:
    """Returns the classes of a model that has `count` of them.

    Args:
        classes: the name of a data set, a file, or the labels. A data set stands for all of its
            classes or for the things alone, whichever are `count`.
        count: the number of the model's classes.
        where: the model's file, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are more or fewer than `count`, or the file is damaged.
    """
    if isinstance(classes, str) and classes in NAMED_LABELS:
        every = NAMED_LABELS[classes]
        for labels in (every, things(every)):
            if len(labels) == count:
                return labels
        raise ValueError(
            f"{where} has {count} classes, and {classes} has {len(every)}, of which "
            f"{len(things(every))} are things; name them in a file"
        )
    is_path = isinstance(classes, str | os.PathLike)
    labels = read_labels(classes) if is_path else tuple(classes)
    if len(labels) != count:
        said = f"{classes} names" if is_path else "the labels are"
        raise ValueError(f"{where} has {count} classes, and {said} {len(labels)}")
    return labels


def read_labels(path: str | os.PathLike) -> tuple[Label, ...]:
    """Returns the classes in a file, in the order of the model's.

    A .json file holds a list of names, or of COCO's categories, perhaps under "categories"; any
    other file has a name per line. Classes are things unless `isthing` is 0; their ids count from
    1 unless the file states them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, or two classes share a name or an id; the message says
            where.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is no file; classes are one of {', '.join(NAMED_LABELS)}, or a file of names"
        )
    if path.suffix.lower() == ".json":
        labels = tuple(read_entries(read_json(path), path))
    else:
        labels = tuple(read_lines(path))
    if not 0 < len(labels) <= MAX_CLASSES:
        raise ValueError(f"{path} names {len(labels)} classes; expected 1 to {MAX_CLASSES}")
    for kind in ("name", "id"):
        value, times = Counter(getattr(x, kind) for x in labels).most_common(1)[0]
        if times > 1:
            raise ValueError(
                f"{path}: {times} classes have the {kind} {value!r}; give each its own"
            )
    return labels


def read_lines(path: Path) -> Iterator[Label]:
    """Yields the classes of a text file, without empty lines."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} isn't text in UTF-8 ({error}); expected a name per line"
        ) from None
    names = [line.strip() for line in lines if line.strip()]
    for label, name in zip(numbered(len(names)), names, strict=True):
        yield Label(id=label.id, name=name, is_thing=True)


def read_entries(values: Any, path: Path) -> Iterator[Label]:
    """Yields the classes of a JSON file."""
    place = ""
    if isinstance(values, dict) and "categories" in values:
        values, place = values["categories"], ".categories"
    if not isinstance(values, list) or len(values) > MAX_CLASSES:
        raise ValueError(f"{path}{place} needs a list of up to {MAX_CLASSES} {FORMS}")
    earlier = -1
    for index, value in enumerate(values):
        where = f"{path}{place}[{index}]"
        fields = {"name": value, "id": index + 1} if isinstance(value, str) else value
        match fields:
            case {"name": str(name)} if name.strip():
                pass
            case _:
                raise ValueError(f"{where} is {value!r:.80}; the file lists {FORMS}")
        id_, is_thing = fields.get("id", index + 1), fields.get("isthing", 1)
        if type(id_) is not int or not 0 <= id_ <= MAX_CLASSES:
            raise ValueError(f"{where}.id is {id_!r:.80}; expected a number up to {MAX_CLASSES}")
        if is_thing not in (0, 1):
            raise ValueError(f"{where}.isthing is {is_thing!r:.80}; expected 0 or 1")
        if id_ < earlier:
            raise ValueError(
                f"{where}.id is {id_}, after {earlier}; list the classes in the order of the "
                "model's, in which ids rise, or their names alone"
            )
        earlier = id_
        yield Label(id=id_, name=name.strip(), is_thing=bool(is_thing))
