"""The output folder: which run it is of, and which images its results are of."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pycocotools.mask as coco_mask

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.cli.predicting.layout import ENDINGS, RUN_FILE, result_file
from m2f_jax.config import Task
from m2f_jax.files import read_json, remove_unfinished, write_json
from m2f_jax.files.folder_lock import only_run_in
from m2f_jax.labels import Label
from m2f_jax.masks.rle import sound_counts
from m2f_jax.pixel_limit import MOST_PIXELS
from m2f_jax.plain import from_plain

LOCK_FILE = "predict.lock"
FORMAT = 2  # of run.json and of the files in results/


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image whose results are in the folder.

    Attributes:
        file_name: its path, relative to the folder that was named.
        name: the name of its results, see `layout`.
        source: its absolute path when it was read.
        digest: a digest of the file's bytes.
        height: its height in pixels.
        width: its width in pixels.
    """

    file_name: str
    name: str
    source: str
    digest: str
    height: Annotated[int, Between(1, MOST_PIXELS)]
    width: Annotated[int, Between(1, MOST_PIXELS)]

    def __post_init__(self):
        check_bounds(self, "")


def digest_of_file(path: Path) -> str:
    """Returns a digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, functools.partial(hashlib.blake2b, digest_size=16)
        ).hexdigest()


@contextlib.contextmanager
def holding_folder(out: Path, *, overwrite: bool) -> Iterator[None]:
    """Makes the output folder, and holds it for this process alone.

    What killed runs left unfinished is removed.

    Args:
        out: the folder.
        overwrite: whether the folder may hold other files.

    Raises:
        FileExistsError: the folder holds something else, or another run holds it.
        NotADirectoryError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder with --out")
    ours = (out / RUN_FILE).exists() or overwrite or not out.is_dir()
    if not ours and not all(x.suffix == ".tmp" or x.name == LOCK_FILE for x in out.iterdir()):
        raise FileExistsError(
            f"{out} holds files that aren't of m2f predict; choose another --out, or pass "
            "--overwrite to write among them"
        )
    out.mkdir(parents=True, exist_ok=True)
    with only_run_in(out, LOCK_FILE):
        remove_unfinished(out)
        yield


def open_folder(
    out: Path,
    settings: Mapping[str, Any],
    labels: Sequence[Label],
    source: Mapping[str, Any],
    *,
    overwrite: bool,
) -> list[Picture]:
    """Begins in an output folder that is held, or takes up an earlier run of the same settings.

    Args:
        out: the folder.
        settings: all that results depend on besides the image, as plain JSON values by name.
        labels: the classes.
        source: more about the run, which may differ.
        overwrite: remove the results of an earlier run.

    Returns:
        The images whose results are there.

    Raises:
        FileExistsError: the folder holds results of other settings.
        ValueError: a file of an earlier run can't be understood.
    """
    record = out / RUN_FILE
    if record.exists():
        if overwrite:
            remove_combined(out)
            for path in (out / "results").rglob("*.json"):
                remove(out, path.relative_to(out / "results").as_posix().removesuffix(".json"))
        else:
            check_settings(out, read_json(record), settings)
    write_json(record, {"format": FORMAT, **source, "settings": settings})
    for folder in ("overlays", "results"):
        (out / folder).mkdir(exist_ok=True)
    write_json(out / "categories.json", categories(labels))
    return [picture for picture, _ in stored_results(out)]


def check_settings(out: Path, record: Any, settings: Mapping[str, Any]):
    """Refuses a run whose settings aren't those of the results that are there.

    Raises:
        FileExistsError: they differ; the message says how.
    """
    there = record.get("format") if isinstance(record, Mapping) else None
    if there != FORMAT or not isinstance(earlier := record.get("settings"), Mapping):
        raise FileExistsError(
            f"{out} holds results of another version of m2f predict; choose another --out, or pass "
            "--overwrite"
        )
    changed = [
        describe_change(key, earlier.get(key), settings.get(key))
        for key in {**settings, **earlier}
        if settings.get(key) != earlier.get(key)
    ]
    if changed:
        raise FileExistsError(
            f"{out} holds results of other settings ({', '.join(changed)}); choose another --out, "
            "or pass --overwrite to start anew"
        )


def describe_change(key: str, there: Any, now: Any) -> str:
    """Returns what has changed, with both values if they are short."""
    if key in ("weights", "labels", "processor", "video"):
        return f"other {key}"
    return f"{key} {there!s:.40} there, {now!s:.40} now"


def stored_results(out: Path) -> list[tuple[Picture, list[dict[str, Any]]]]:
    """Returns all images of the folder and their results, in order of the images' paths.

    Raises:
        ValueError: a file in results/ isn't one of `m2f predict`, or was moved.
    """
    found = [read_result(out, path) for path in (out / "results").rglob("*.json")]
    names: dict[str, str] = {}
    for picture, _ in found:
        other = names.setdefault(picture.file_name, picture.name)
        if other != picture.name:
            raise ValueError(
                f"{result_file(out, other)} and {result_file(out, picture.name)} are both of "
                f"{picture.file_name}; remove one"
            )
    return sorted(found, key=lambda result: result[0].file_name)


def read_result(out: Path, path: Path) -> tuple[Picture, list[dict[str, Any]]]:
    """Returns what `write_result` wrote.

    Raises:
        ValueError: the file is something else, or was moved.
    """
    content = read_json(path)
    annotations = content.get("annotations") if isinstance(content, Mapping) else None
    if not isinstance(annotations, list) or not all(isinstance(x, Mapping) for x in annotations):
        raise ValueError(
            f"{path} isn't a file of m2f predict; move it elsewhere, or choose another --out"
        )
    picture = from_plain(Picture, content.get("image"), f"{path}: image")
    if result_file(out, picture.name) != path:
        raise ValueError(f"{path} holds the results called {picture.name}; move it back")
    return picture, annotations


def write_result(out: Path, picture: Picture, annotations: Sequence[Mapping[str, Any]]):
    """Writes an image's JSON file, which says that its other files are complete."""
    path = result_file(out, picture.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"image": dataclasses.asdict(picture), "annotations": annotations}
    write_json(path, content, indent=None)


def remove(out: Path, stem: str):
    """Removes the files of one image's results, first the JSON file that says they are complete.

    Args:
        out: the output folder.
        stem: the files' path without ending, which `layout.file_stem` returns.
    """
    for folder, endings in ENDINGS.items():
        for ending in endings:
            (out / folder / f"{stem}{ending}").unlink(missing_ok=True)


COMBINED = ("predictions.json", "images.json")


def remove_combined(out: Path):
    """Removes the files of all images, which are about to be out of date."""
    for name in COMBINED:
        (out / name).unlink(missing_ok=True)


def write_combined(
    out: Path,
    task: Task,
    labels: Sequence[Label],
    results: Sequence[tuple[Picture, list[dict[str, Any]]]],
    ids: Mapping[str, int | str],
    *,
    boxes: bool,
):
    """Writes images.json, and predictions.json as COCO's tools read it: all that results/ holds.

    Args:
        out: the output folder.
        task: decides on the format, COCO's for results or for panoptic results.
        labels: the classes.
        results: what `stored_results` returns.
        ids: the images' ids, by `file_name`.
        boxes: whether instances have a `bbox` beside their mask.

    Raises:
        ValueError: a mask is broken, so it has no box; the file is named.
    """
    remove_combined(out)  # so that the two files always belong together
    images, annotations = [], []
    for picture, entries in results:
        image_id = ids[picture.file_name]
        images.append(
            {
                "id": image_id,
                "file_name": picture.file_name,
                "height": picture.height,
                "width": picture.width,
            }
        )
        for entry in entries:
            box = {"bbox": box_of(out, picture, entry)} if boxes and task == "instance" else {}
            annotations.append({**entry, "image_id": image_id, **box})
    write_json(out / "images.json", images, indent=None)
    content: Any = annotations
    if task == "panoptic":
        content = {"images": images, "annotations": annotations, "categories": categories(labels)}
    write_json(out / "predictions.json", content, indent=None)


def box_of(out: Path, picture: Picture, entry: Mapping[str, Any]) -> list[int]:
    """Returns left, top, width and height of an instance's mask.

    Raises:
        ValueError: it has none; the file is named.
    """
    size = picture.height, picture.width
    try:
        [counts] = sound_counts([entry.get("segmentation")], size)
    except ValueError as error:
        raise ValueError(f"{result_file(out, picture.name)}: {error}") from None
    return [int(x) for x in coco_mask.toBbox({"size": list(size), "counts": counts})]


def categories(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Returns the classes in COCO's form."""
    return [{"id": x.id, "name": x.name, "isthing": int(x.is_thing)} for x in labels]
