"""The names of an image's results, and their files in the output folder.

A name becomes results/NAME.json, overlays/NAME.jpg (or .png) and maps/NAME.png. Different names
become different files, and no file takes the place of a folder.
"""

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

RUN_FILE = "run.json"
ENDINGS = {"results": (".json",), "overlays": (".jpg", ".png"), "maps": (".png",)}
LIKE_A_FILE = re.compile(r"\.(json|jpg|png)_*\Z")
COCO_STEM = re.compile(r"[0-9]{12}")


def result_names(file_names: Iterable[str], taken: Mapping[str, str]) -> dict[str, str]:
    """Returns a name for the results of each image: its path without the ending.

    Where several images would share one, as a.jpg and a.png, it is the path with the ending. Names
    that differ only in case or in the encoding of accents count as one, as on many disks.

    Args:
        file_names: the images' relative paths.
        taken: the names that results have already, by the images' `file_name`; these stay.
    """
    file_names = list(dict.fromkeys(file_names))
    names = {file_name: taken[file_name] for file_name in file_names if file_name in taken}
    used = {on_disk(name) for name in taken.values()}
    shared = Counter(on_disk(without_ending(x)) for x in {*file_names, *taken})
    for file_name in file_names:
        if file_name in names:
            continue
        short = without_ending(file_name)
        long = itertools.chain([file_name], (f"{file_name}.{i}" for i in itertools.count(2)))
        names[file_name] = next(
            name
            for name in itertools.chain([short] if shared[on_disk(short)] == 1 else [], long)
            if on_disk(name) not in used
        )
        used.add(on_disk(names[file_name]))
    return names


def without_ending(file_name: str) -> str:
    """Returns a relative path without what follows its last dot."""
    return os.path.splitext(file_name)[0]


def on_disk(name: str) -> str:
    """Returns what a name is to a disk that doesn't tell case and encodings of accents apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def file_stem(name: str) -> str:
    """Returns the path of results, relative to their folder and without an ending.

    It is the name, but for folders that end as result files do: a.json/b becomes a.json_/b, and
    a.json_/b becomes a.json__/b.
    """
    *folders, last = name.split("/")
    return "/".join([*(f"{x}_" if LIKE_A_FILE.search(on_disk(x)) else x for x in folders), last])


def result_file(out: Path, name: str) -> Path:
    """Returns the JSON file of one image's results."""
    return out / "results" / f"{file_stem(name)}.json"


def image_ids(names: Mapping[str, str]) -> dict[str, int | str]:
    """Returns the images' ids by `file_name`: the names of their results.

    Where all files are called as COCO's are, by twelve digits, and no two alike, the ids are these
    numbers, as in COCO's annotations.

    Args:
        names: the names of the results, by the images' `file_name`.
    """
    stems = [Path(file_name).stem for file_name in names]
    if len(set(stems)) == len(stems) and all(map(COCO_STEM.fullmatch, stems)):
        return {file_name: int(stem) for file_name, stem in zip(names, stems, strict=True)}
    return dict(names)
