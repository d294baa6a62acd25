"""The files of a model's folder, Hugging Face's or ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2f_jax.files import read_json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
HUGGING_FACE_WEIGHTS = (WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json", "pytorch_model.bin")


def read_object(path: Path) -> Mapping[str, Any]:
    """Returns the JSON object in a file of a model's folder.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent} has no {path.name}, which a model's folder holds beside {WEIGHTS_FILE}"
        )
    values = read_json(path)
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} holds no JSON object but {values!r:.50}; download it again")
    return values


def weights_in(folder: Path, names: Sequence[str]) -> Path:
    """Returns the path of the first of these files that exists.

    Raises:
        FileNotFoundError: none does.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no {' or '.join(names)}, only {CONFIG_FILE}")
