"""Trained models from files and from the Hugging Face hub, and back to files."""

import os
import re
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from m2f_jax.config import Task
from m2f_jax.convert.checkpoint import (
    CONFIG_FILE,
    HUGGING_FACE_WEIGHTS,
    WEIGHTS_FILE,
    Checkpoint,
    open_checkpoint,
)
from m2f_jax.convert.formats import StoredTensor, write_safetensors
from m2f_jax.model import Mask2Former, abstract_model, fill, parameters, stored_dtype
from m2f_jax.processor import PROCESSOR_FILE, ImageProcessor

DTYPES = ("float32", "bfloat16")


def open_source(
    source: str | os.PathLike,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    task: Task | None = None,
    num_heads: int | None = None,
) -> Checkpoint:
    """The checkpoint behind a folder, a file or a hub id.

    Raises:
        FileNotFoundError: none of the three.
        ValueError: it isn't a Mask2Former on Swin, or is damaged.
    """
    path = Path(source)
    if not path.exists():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) or path.suffix in (".pkl", ".pth"):
            raise FileNotFoundError(
                f"{source} is missing; expected a folder with {CONFIG_FILE}, a .pkl file, or a "
                "Hugging Face id such as facebook/mask2former-swin-large-cityscapes-instance"
            )
        path = download(str(source), revision, token)
    return open_checkpoint(path, name=str(source), task=task, num_heads=num_heads)


def download(repository: str, revision: str | None, token: str | bool | None) -> Path:
    """The folder of the hub's local cache with a repository's model; fetched if it isn't there.

    Raises:
        FileNotFoundError: no such folder and no such repository, no connection and nothing in the
            cache, or no access; the message says which and what to do.
    """

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(repository, name, revision=revision, token=token))

    try:
        folder = fetch(CONFIG_FILE).parent
        weights_fetched = False
        for name in HUGGING_FACE_WEIGHTS:
            try:
                path = fetch(name)
            except EntryNotFoundError:
                continue
            if name.endswith(".index.json"):
                for shard in sorted(set(re.findall(r'"([^"]+\.safetensors)"', path.read_text()))):
                    fetch(shard)
            weights_fetched = True
            break
        if not weights_fetched:
            raise FileNotFoundError(
                f"{repository} has none of {', '.join(HUGGING_FACE_WEIGHTS)} on the hub"
                " (or, without a connection, in the local cache)"
            )
        try:
            fetch(PROCESSOR_FILE)
        except EntryNotFoundError:
            pass  # the authors' settings serve
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"{repository} asks for permission: accept its terms on the hub and pass your token"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise _unreachable(repository) from error
        raise FileNotFoundError(
            f"there is no folder {repository} and no model of that name"
            f"{f' and revision {revision}' if revision else ''} on the Hugging Face hub"
            " (a private one needs a token)"
        ) from error
    except (OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        if isinstance(error, FileNotFoundError) and "hub" in str(error):
            raise
        raise _unreachable(repository) from error
    return folder


def _unreachable(repository: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"there is no folder {repository}, and the Hugging Face hub can't be reached or is switched"
        " off (HF_HUB_OFFLINE), and its local cache doesn't hold that model"
    )


def load_model(
    source: str | os.PathLike,
    dtype: str | jnp.dtype = "float32",
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Mask2Former:
    """`Mask2Former.from_pretrained`."""
    return model_from(open_source(source, revision=revision, token=token), dtype)


def model_from(checkpoint: Checkpoint, dtype: str | jnp.dtype) -> Mask2Former:
    """The model of an open checkpoint, whose tensors are used up.

    Raises:
        ValueError: the dtype isn't supported.
    """
    dtype = jnp.dtype(dtype)
    if dtype.name not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, not {dtype.name}")
    abstract = abstract_model(checkpoint.config, dtype)
    arrays = {
        name: jnp.asarray(checkpoint.tensors.pop(name).read(), stored_dtype(name, dtype))
        for name in parameters(abstract)
    }
    return fill(abstract, arrays)


def load_processor(
    source: str | os.PathLike, *, revision: str | None = None, token: str | bool | None = None
) -> ImageProcessor:
    """`ImageProcessor.from_pretrained`."""
    return open_source(source, revision=revision, token=token).processor


def save_model(model: Mask2Former, folder: str | os.PathLike):
    """`Mask2Former.save_pretrained`."""
    tensors = {
        name: StoredTensor(
            value[...].shape,
            np.dtype(ml_dtypes.bfloat16) if value[...].dtype == jnp.bfloat16 else value[...].dtype,
            lambda value=value: np.asarray(value[...]),
        )
        for name, value in parameters(model).items()
    }
    save_checkpoint(Checkpoint(model.config, ImageProcessor.for_model(model.config), tensors), folder)


def save_checkpoint(checkpoint: Checkpoint, folder: str | os.PathLike):
    """Writes a folder that `from_pretrained` takes; a processor already there is kept."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / WEIGHTS_FILE, checkpoint.tensors, {"format": "m2f_jax"})
    checkpoint.config.save(folder / CONFIG_FILE)
    if not (folder / PROCESSOR_FILE).exists():
        checkpoint.processor.save_pretrained(folder)
