"""Street scenes on disk, in the files and folders of Cityscapes."""

import contextlib
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from m2f_jax.files import read_json, write_json
from m2f_jax.labels import CITYSCAPES
from m2f_jax.streets.scene import StreetScene, check_size, street_scene

VERSION = 1  # changes when the same seed and index give another scene
SETTINGS_FILE = "streets.json"
SPLITS = ("train", "val", "test")
CITY = "streets"
MOST_IMAGES = 1_000_000
IGNORED = 255
GROUND_TRUTH = ("instanceIds", "labelIds", "labelTrainIds", "color")

# The colors of *_gtFine_color.png, by label id; those that are left out are black.
COLORS = {
    5: (111, 74, 0), 6: (81, 0, 81), 7: (128, 64, 128), 8: (244, 35, 232), 9: (250, 170, 160),
    10: (230, 150, 140), 11: (70, 70, 70), 12: (102, 102, 156), 13: (190, 153, 153),
    14: (180, 165, 180), 15: (150, 100, 100), 16: (150, 120, 90), 17: (153, 153, 153),
    18: (153, 153, 153), 19: (250, 170, 30), 20: (220, 220, 0), 21: (107, 142, 35),
    22: (152, 251, 152), 23: (70, 130, 180), 24: (220, 20, 60), 25: (255, 0, 0), 26: (0, 0, 142),
    27: (0, 0, 70), 28: (0, 60, 100), 29: (0, 0, 90), 30: (0, 0, 110), 31: (0, 80, 100),
    32: (0, 0, 230), 33: (119, 11, 32),
}  # fmt: skip


def write_streets(
    folder: Path | str,
    images: int,
    size: tuple[int, int],
    seed: int,
    split: str = "val",
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> int:
    """Writes street scenes 0 to images - 1 of a seed as a split of a Cityscapes tree.

    What an earlier, interrupted call with the same settings has written stays. An image is there
    when all its files are; its leftImg8bit file is written last.

    Args:
        folder: the root of the tree; it has a file streets.json, or is empty, or new.
        images: how many there will be.
        size: their height and width in pixels.
        seed: the seed of the scenes; take another one for each split.
        split: "train", "val" or "test".
        progress: called with (0, n) when n images are to be drawn, and (k, n) after the kth.
        workers: how many processes draw; it changes nothing else. More than one are started afresh,
            so a script's own work belongs under `if __name__ == "__main__":`.

    Returns:
        How many images were drawn.

    Raises:
        ValueError: a number, the size or the split isn't possible.
        FileExistsError: the folder holds something else, or the split has other settings.
        OSError: the folder can't be written to.
    """
    check_size(size)
    if not 1 <= images <= MOST_IMAGES:
        raise ValueError(f"the number of images is from 1 to {MOST_IMAGES}; got {images}")
    if seed < 0:
        raise ValueError(f"a seed is at least 0; got {seed}")
    if workers < 1:
        raise ValueError(f"at least 1 process draws; got {workers}")
    if split not in SPLITS:
        raise ValueError(f"a split is {', '.join(SPLITS[:-1])} or {SPLITS[-1]}; got {split!r}")
    folder = Path(folder)
    prepare_folder(folder, split, {"seed": seed, "size": list(size), "version": VERSION})

    there = {path.name for path in folder.glob(f"*/{split}/{CITY}/*.png")}
    names = {index: scene_name(index) for index in range(images)}
    extra = sum(name.endswith("_leftImg8bit.png") for name in there) - sum(
        f"{name}_leftImg8bit.png" in there for name in names.values()
    )
    if extra:
        raise FileExistsError(
            f"{folder} holds {extra} {split} images beyond the first {images}; ask for more "
            "images, or choose another folder"
        )
    kinds = ("leftImg8bit", *(f"gtFine_{kind}" for kind in GROUND_TRUTH))
    todo = [k for k, name in names.items() if not {f"{name}_{kind}.png" for kind in kinds} <= there]
    for kind in ("leftImg8bit", "gtFine"):
        (folder / kind / split / CITY).mkdir(parents=True, exist_ok=True)
    if progress:
        progress(0, len(todo))
    draw = functools.partial(draw_scene, folder, split, seed, size)
    with contextlib.ExitStack() as stack:
        drawn = map(draw, todo)
        if workers > 1 and len(todo) > 1:
            context = multiprocessing.get_context("spawn")  # JAX's threads don't survive a fork
            pool = ProcessPoolExecutor(
                min(workers, len(todo)), context, initializer=end_with_parent
            )
            stack.callback(pool.shutdown, cancel_futures=True)
            drawn = pool.map(draw, todo)
        for done, _ in enumerate(drawn, start=1):
            if progress:
                progress(done, len(todo))
    return len(todo)


def end_with_parent():
    """Ends this process once the one that started it is gone, where it would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is one of a pool

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def draw_scene(folder: Path, split: str, seed: int, size: tuple[int, int], index: int):
    """Draws one scene and writes its files."""
    write_scene(folder, split, scene_name(index), street_scene(seed, index, size))


def scene_name(index: int) -> str:
    """Returns the start of the names of a scene's files: city, sequence and frame."""
    return f"{CITY}_{index:06d}_000019"


def prepare_folder(folder: Path, split: str, settings: dict[str, Any]):
    """Makes the folder if it isn't there, and writes the split's settings into it.

    Raises:
        FileExistsError: it holds something else, or images of other settings.
    """
    record = folder / SETTINGS_FILE
    splits: dict[str, dict[str, Any]] = {}
    if record.exists():
        try:
            splits = dict(read_json(record)["splits"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{record} can't be read as the settings of street scenes") from error
    elif folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} holds files, but no {SETTINGS_FILE}; choose an empty or a new folder"
        )
    earlier = splits.get(split)
    if earlier is not None and earlier != settings:
        changed = ", ".join(
            f"{key} {earlier.get(key)} there, {settings[key]} now"
            for key in settings
            if earlier.get(key) != settings[key]
        )
        raise FileExistsError(
            f"{folder} holds {split} images of other settings ({changed}); choose another folder"
        )
    for other, theirs in splits.items():
        if other != split and theirs.get("seed") == settings["seed"]:
            raise FileExistsError(
                f"{folder} holds {other} images of seed {settings['seed']}, and {split} images "
                "would show the same streets; choose another seed"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, {"splits": {**splits, split: settings}})


def write_scene(folder: Path, split: str, name: str, scene: StreetScene):
    """Writes the files of one scene; each is whole whenever it is there."""
    label_ids = scene.label_ids
    truth = {
        "instanceIds": scene.instance_ids.astype(np.uint16),
        "labelIds": label_ids,
        "labelTrainIds": train_ids()[label_ids],
        "color": colors()[label_ids],
    }
    for kind in GROUND_TRUTH:
        save(truth[kind], folder / "gtFine" / split / CITY / f"{name}_gtFine_{kind}.png")
    save(scene.image, folder / "leftImg8bit" / split / CITY / f"{name}_leftImg8bit.png")


def save(pixels: np.ndarray, path: Path):
    """Writes a PNG under another name, then renames it."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=4)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def train_ids() -> UInt8[np.ndarray, "256"]:
    """Returns the train id of every label id."""
    table = np.full(256, IGNORED, np.uint8)
    table[[label.id for label in CITYSCAPES]] = np.arange(len(CITYSCAPES))
    return table


def colors() -> UInt8[np.ndarray, "256 4"]:
    """Returns the color of every label id, as red, green, blue and opacity."""
    table = np.zeros((256, 4), np.uint8)
    table[:, 3] = 255
    table[list(COLORS), :3] = list(COLORS.values())
    return table
