"""Fetches a model from the Hugging Face hub into its local cache."""

import re
from pathlib import Path

from huggingface_hub import hf_hub_download, model_info
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from m2f_jax.inference.processor import PROCESSOR_FILE

from .folder import CONFIG_FILE, HUGGING_FACE_WEIGHTS


def is_repository(source: str) -> bool:
    """Returns whether a name is a possible id of a repository, rather than a missing path."""
    if "/" not in source or source.endswith(
        (".pkl", ".pth", ".pt", ".bin", ".ckpt", ".safetensors")
    ):
        return False
    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def download(repository: str, revision: str | None, token: str | bool | None) -> Path:
    """Fetches a repository's model, as far as the local cache lacks it, and returns its folder.

    Raises:
        FileNotFoundError: no such repository or revision, one without a model, no access, or no
            connection and nothing in the cache; the message says which and what to do.
    """
    try:
        return _download(repository, revision, token, local=not _is_online(repository, token))
    except GatedRepoError as error:
        problem = "asks for permission: accept its terms on the hub, and log in or pass your token"
        raise FileNotFoundError(f"{repository} {problem}") from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{repository} has no revision {revision} on the hub") from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"there is no folder {repository}, and no model of that name on the Hugging Face hub "
            "(a private one needs a token)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"there is no folder {repository}, the Hugging Face hub can't be reached or is "
            "switched off (HF_HUB_OFFLINE), and its local cache doesn't hold that model"
        ) from error
    except FileNotFoundError:
        raise
    except Exception as error:  # of the HTTP library, which depends on hub's version, or the disk
        raise FileNotFoundError(
            f"{repository} couldn't be fetched from the Hugging Face hub "
            f"({type(error).__name__}: {error})"
        ) from error


def _is_online(repository: str, token: str | bool | None) -> bool:
    """Returns whether the hub answers; if it doesn't, `hf_hub_download` would retry for long."""
    try:
        model_info(repository, token=token, timeout=10)
    except HfHubHTTPError:  # a refusal is an answer: downloading says why, or finds it in the cache
        return True
    except Exception:  # of its HTTP library, or OfflineModeIsEnabled
        return False
    return True


def _download(repository: str, revision: str | None, token: str | bool | None, local: bool) -> Path:
    def fetch(name: str, revision: str | None) -> Path | None:
        """Fetches a file; returns None if the repository, or with `local` the cache, lacks it."""
        try:
            path = hf_hub_download(
                repository, name, revision=revision, token=token, local_files_only=local
            )
        except LocalEntryNotFoundError:
            if local:
                return None
            raise
        except EntryNotFoundError:
            return None
        return Path(path)

    config = fetch(CONFIG_FILE, revision)
    if config is None and local:
        raise LocalEntryNotFoundError(f"no {CONFIG_FILE}")
    if config is None:
        raise FileNotFoundError(f"{repository} has no {CONFIG_FILE} on the hub: it is no model")
    folder = config.parent
    commit = folder.name  # the others too come from this one, even if the branch moves meanwhile
    found = (fetch(name, commit) for name in HUGGING_FACE_WEIGHTS)
    weights = next((path for path in found if path is not None), None)
    if weights is None:
        place = "in the local cache, and the hub can't be reached" if local else "on the hub"
        raise FileNotFoundError(
            f"{repository} has none of {', '.join(HUGGING_FACE_WEIGHTS)} {place}"
        )
    if weights.name.endswith(".index.json"):
        for shard in sorted(set(re.findall(r'"([^"/]+\.safetensors)"', weights.read_text()))):
            fetch(shard, commit)
    fetch(PROCESSOR_FILE, commit)  # without one, the authors' settings serve
    return folder
