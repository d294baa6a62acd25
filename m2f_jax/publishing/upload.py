"""The upload of a folder to the Hugging Face hub, in one commit."""

import contextlib
import fnmatch
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

MODEL_FILES = (  # patterns of a model's files in a repository, which are replaced together
    "config.json",
    "preprocessor_config.json",
    "model*.safetensors",
    "model*.safetensors.index.json",
    "pytorch_model*",
    "train.json",
    "transformers/*",
    "README.md",
)
SHOWN = 5  # files in one message
LOG_IN = "log in with hf auth login, or set HF_TOKEN to a token that may write"


def check_repository(repository: str):
    """Refuses what can't be a repository's name, before any work.

    Raises:
        ValueError: the message says what is expected.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(f"{repository!r} can't be a repository on the hub: {error}") from error
    if "/" not in repository:
        raise ValueError(
            f"{repository!r} lacks the owner; repositories are called OWNER/NAME, such as "
            f"somebody/{repository}"
        )


def upload(
    folder: Path,
    repository: str,
    *,
    private: bool = False,
    overwrite: bool = False,
    token: str | bool | None = None,
    message: str = "Upload model by m2f-jax",
) -> str:
    """Uploads a folder's files, and returns the commit's address.

    Args:
        folder: what `write_folder` wrote.
        repository: OWNER/NAME, which is made if it isn't there.
        private: make it a private one.
        overwrite: replace the model that is there; the old files stay in the repository's history.
        token: a token of the hub; by default the one you logged in with.
        message: the commit's message.

    Raises:
        FileExistsError: the repository holds a model, or part of one.
        ValueError: the repository's name can't be one, or it is there and public, and `private`.
        PermissionError: the hub doesn't know the token, or doesn't let it write there.
        ConnectionError: the hub can't be reached, or refuses for another reason.
    """
    check_repository(repository)
    api = HfApi(token=token)
    with refused_plainly(repository):
        try:
            there = api.model_info(repository)
        except RepositoryNotFoundError:
            api.create_repo(repository, private=private)
            old = []
        else:
            if private and not there.private:
                raise ValueError(
                    f"{repository} is there already and public; make it private in its settings "
                    "on the hub, or name another one"
                )
            old = [
                file.rfilename
                for file in there.siblings or ()
                if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in MODEL_FILES)
            ]
        if old and not overwrite:
            more = f" and {len(old) - SHOWN} more" if len(old) > SHOWN else ""
            raise FileExistsError(
                f"{repository} holds {', '.join(old[:SHOWN])}{more}; name another one, or replace "
                "them on purpose (--overwrite)"
            )
        commit = api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            commit_message=message,
            delete_patterns=old or None,
        )
    return commit.commit_url


@contextlib.contextmanager
def refused_plainly(repository: str) -> Iterator[None]:
    """Turns what the hub's client raises into one line that says what to do.

    Raises:
        PermissionError, ConnectionError: as `upload`.
    """
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PermissionError(f"you aren't logged in: {LOG_IN}") from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError("the hub is switched off (HF_HUB_OFFLINE); unset it") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise PermissionError(f"the hub doesn't know you: {LOG_IN}") from error
        if status == 403:
            raise PermissionError(
                f"you may not write to {repository}; take a token that may write, and an owner "
                "that is you or your organization"
            ) from error
        said = error.server_message or str(error).splitlines()[0]
        raise ConnectionError(f"the hub refuses {repository} ({status}: {said})") from error
    except (ValueError, FileExistsError):
        raise
    except Exception as error:  # of its HTTP library, which depends on its version
        raise ConnectionError(
            f"{repository} couldn't be uploaded to the hub ({type(error).__name__}: {error})"
        ) from error
