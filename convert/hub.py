"""Where a checkpoint is: on disk, or on the Hugging Face hub and then in its local cache."""

import contextlib
import os
import re
from pathlib import Path

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

from m2f_jax.processor import PROCESSOR_FILE

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
HUGGING_FACE_WEIGHTS = (WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json", "pytorch_model.bin")


def locate(
    source: str | os.PathLike, revision: str | None = None, token: str | bool | None = None
) -> Path:
    """The folder or file of `source`, fetched from the hub if it's an id and not in the cache.

    Raises:
        FileNotFoundError: neither a path nor a reachable repository.
    """
    path = Path(source)
    if path.exists():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) or path.suffix in (".pkl", ".pth"):
        raise FileNotFoundError(
            f"{source} is missing; expected a folder with {CONFIG_FILE}, a .pkl file, or a "
            "Hugging Face id such as facebook/mask2former-swin-large-cityscapes-instance"
        )
    return download(str(source), revision, token)


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
        with contextlib.suppress(EntryNotFoundError):  # then the authors' settings serve
            fetch(PROCESSOR_FILE)
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
