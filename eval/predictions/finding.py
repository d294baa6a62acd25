"""Finds files of predictions, one per image or named by another file; checks size and wholeness."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import Any

from m2f_jax.images import verified_size
from m2f_jax.sizes import Size


def path_within(folder: Path, name: str, where: str, root: Path | None = None) -> Path:
    """Returns the path of a file that another file names; as officially, links aren't resolved.

    Args:
        folder: what the name is relative to.
        name: the name.
        where: what the message begins with.
        root: the folder that the file must be in; by default `folder`.

    Raises:
        ValueError: the name is absolute, or leads out of the folder.
    """
    path, root = Path(os.path.abspath(folder / name)), folder if root is None else root
    if PurePath(name).is_absolute() or not path.is_relative_to(os.path.abspath(root)):
        raise ValueError(f"{where}: {name!r:.200} leads out of {root}; name a file in it")
    return path


def check_png(path: Path, size: Size):
    """Refuses an image file that is cut off or has another size, without decoding it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or its size is another one.
    """
    found = verified_size(path)
    if found != tuple(size):
        raise ValueError(
            f"{path} has {found[0]} x {found[1]} pixels, but its image {size[0]} x {size[1]}; "
            "predictions must have the size of the image"
        )


def one_file_each(
    folder: Path, ending: str, items: Sequence[Any], known: Collection[str]
) -> dict[str, Path]:
    """Finds the file of each image in a folder as the official scripts do: <name>*<ending>.

    Args:
        folder: is searched through.
        ending: such as ".png".
        items: the images that need a file.
        known: the names of all images of the data set, which may have one.

    Raises:
        FileNotFoundError: there is no folder, or an image has no file.
        ValueError: an image has several, a file is about an image that isn't in the data set, or
            it is a folder, a pipe or a broken link.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; expected a folder of predictions")
    lengths = sorted({len(name) for name in known}, reverse=True)
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob(f"*{ending}")):
        names = [path.name[:length] for length in lengths if path.name[:length] in known]
        if not names:
            raise ValueError(f"{path} isn't about an image of the ground truth; leave it out")
        if not path.is_file():
            raise ValueError(f"{path} isn't a regular file (a folder, a pipe or a broken link)")
        if names[0] in files:
            raise ValueError(f"{names[0]} has two files, {files[names[0]]} and {path}")
        files[names[0]] = path
    missing = [item.name for item in items if item.name not in files]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {missing[0]}*{ending}, and lacks {len(missing)} of {len(items)} "
            "images in all"
        )
    return files
