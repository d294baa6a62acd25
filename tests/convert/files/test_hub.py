"""Hub ids: which files are fetched, and one clear message for all that can go wrong."""

import json
import shutil
import socket
import time
import types

import numpy as np
import pytest
from huggingface_hub import constants, errors
from m2f_jax.convert import open_checkpoint
from m2f_jax.convert.files import hub
from m2f_jax.convert.files.formats import open_tensors
from m2f_jax.convert.files.locating import locate

REPOSITORY = "somebody/mask2former-semantic"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG, WEIGHTS, PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
BIN, INDEX = "pytorch_model.bin", "model.safetensors.index.json"


def refusal(kind, status=404):
    """An error that the hub's client makes of an answer."""
    return kind(
        "refused", response=types.SimpleNamespace(headers={}, request=None, status_code=status)
    )


class FakeHub:
    """A repository, of which `files` are on the hub and `cached` in the local cache."""

    def __init__(self, folder):
        self.cache = folder / COMMIT
        self.cache.mkdir()
        self.files, self.cached = {CONFIG: b"{}"}, set()
        self.connected, self.failures = True, {}
        self.asked, self.fetched = [], []

    def model_info(self, repository, *, token, timeout):
        self.asked.append((repository, token))
        assert timeout <= 10
        failure = self.failures.get(CONFIG)
        if isinstance(failure, errors.HfHubHTTPError):
            raise failure
        if not self.connected:
            raise Exception("no connection")

    def hf_hub_download(self, repository, name, *, revision, token, local_files_only):
        assert repository == REPOSITORY
        assert local_files_only != self.connected
        self.fetched.append((name, revision, token))
        if name in self.failures:
            raise self.failures[name]
        if not self.connected and name not in self.cached:
            raise errors.LocalEntryNotFoundError("not in the cache")
        if name not in self.files:
            raise refusal(errors.RemoteEntryNotFoundError)
        (self.cache / name).write_bytes(self.files[name])
        return str(self.cache / name)

    @property
    def names(self):
        return [name for name, _, _ in self.fetched]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    fake = FakeHub(tmp_path)
    monkeypatch.setattr(hub, "model_info", fake.model_info)
    monkeypatch.setattr(hub, "hf_hub_download", fake.hf_hub_download)
    return fake


def test_paths_are_not_looked_up(fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / REPOSITORY
    folder.mkdir(parents=True)
    assert locate(folder) == folder
    assert str(locate(REPOSITORY)) == REPOSITORY
    assert not fake.asked


@pytest.mark.parametrize(
    "source",
    [
        "somebody",
        "models/large/final",
        "../model",
        "/model",
        "models/model_final.pkl",
        "models/model_final.pth",
        "models/model.safetensors",
        "models/a--b",
        "models/two words",
        "a/" + "b" * 5000,
    ],
)
def test_what_can_only_be_a_path(fake, source):
    with pytest.raises(FileNotFoundError, match=r"is missing; expected a folder with config\.json"):
        open_checkpoint(source)
    assert not fake.asked


def test_files_that_are_fetched(fake):
    fake.files |= {WEIGHTS: b"", PROCESSOR: b"", BIN: b"", "README.md": b""}
    assert locate(REPOSITORY) == fake.cache
    assert fake.names == [CONFIG, WEIGHTS, PROCESSOR]


def test_a_pickle_only_where_there_is_nothing_else(fake):
    fake.files |= {BIN: b""}
    assert locate(REPOSITORY) == fake.cache
    assert fake.names == [CONFIG, WEIGHTS, INDEX, BIN, PROCESSOR]


def test_shards(fake):
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
    fake.files |= {INDEX: json.dumps({"weight_map": shards}).encode(), BIN: b""}
    fake.files |= dict.fromkeys(shards.values(), b"")
    locate(REPOSITORY)
    assert fake.names == [
        CONFIG, WEIGHTS, INDEX, "model-1.safetensors", "model-2.safetensors", PROCESSOR,
    ]  # fmt: skip


@pytest.mark.parametrize("revision", [None, "v1"])
@pytest.mark.parametrize("token", [None, "secret", False])
def test_revision_and_token(fake, revision, token):
    fake.files |= {WEIGHTS: b""}
    locate(REPOSITORY, revision, token)
    assert fake.asked == [(REPOSITORY, token)]
    assert fake.fetched == [  # all from the commit that the revision meant at first
        (CONFIG, revision, token),
        (WEIGHTS, COMMIT, token),
        (PROCESSOR, COMMIT, token),
    ]


def test_a_whole_checkpoint(fake, tiny):
    for name in (CONFIG, WEIGHTS):
        fake.files[name] = (tiny.folder / "hf" / name).read_bytes()
    checkpoint = open_checkpoint(REPOSITORY)
    local = open_checkpoint(tiny.folder / "hf", task="semantic")  # as the id says
    assert checkpoint.config == local.config
    assert checkpoint.processor == local.processor
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.read(), local.tensors[name].read(), strict=True)


def test_without_a_connection_the_cache_serves(fake):
    fake.connected = False
    fake.files |= {BIN: b"", WEIGHTS: b"", PROCESSOR: b""}
    fake.cached |= {CONFIG, BIN}
    assert locate(REPOSITORY) == fake.cache
    fake.cached -= {BIN}
    with pytest.raises(FileNotFoundError, match=f"{REPOSITORY} has none of .* in the local cache"):
        locate(REPOSITORY)
    fake.cached.clear()
    with pytest.raises(FileNotFoundError, match=f"no folder {REPOSITORY}, the .* can't be reached"):
        locate(REPOSITORY)


@pytest.mark.parametrize(
    ("name", "failure", "message"),
    [
        (CONFIG, refusal(errors.RepositoryNotFoundError), "and no model of that name on the"),
        (CONFIG, refusal(errors.GatedRepoError, 403), "asks for permission: accept its terms"),
        (CONFIG, refusal(errors.RevisionNotFoundError), "has no revision v1 on the hub"),
        (CONFIG, refusal(errors.RemoteEntryNotFoundError), r"has no config\.json on the hub"),
        (CONFIG, refusal(errors.HfHubHTTPError, 503), r"couldn't be fetched .*HfHubHTTPError: ref"),
        (CONFIG, errors.LocalEntryNotFoundError("timeout"), "can't be reached or is switched off"),
        (WEIGHTS, errors.LocalEntryNotFoundError("timeout"), "can't be reached or is switched off"),
        (WEIGHTS, refusal(errors.RemoteEntryNotFoundError), "has none of .* on the hub"),
        (WEIGHTS, Exception("cut off"), r"couldn't be fetched .*\(Exception: cut off\)"),
        (WEIGHTS, OSError(28, "No space left"), r"couldn't be fetched .*No space left"),
        (
            PROCESSOR,
            errors.LocalEntryNotFoundError("timeout"),
            "can't be reached or is switched off",
        ),
    ],
)
def test_failures_name_the_repository(fake, name, failure, message):
    if name == PROCESSOR:
        fake.files |= {WEIGHTS: b""}
    fake.failures[name] = failure
    with pytest.raises(FileNotFoundError, match=message) as caught:
        open_checkpoint(REPOSITORY, revision="v1")
    assert REPOSITORY in str(caught.value)
    assert "\n" not in str(caught.value)


# --- with the real client and its real cache -----------------------------------------------------


@pytest.fixture
def cache(tiny, tmp_path, monkeypatch):
    """A cache with the model, as the client leaves it; no request may leave this machine."""
    cache = tmp_path / "models--somebody--mask2former-semantic"
    snapshot = cache / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(tiny.folder / "hf", snapshot)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def no_network(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    return snapshot


@pytest.mark.parametrize("offline", [True, False])
def test_real_cache(cache, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    for revision in (None, "main", COMMIT):
        assert locate(REPOSITORY, revision) == cache
    assert open_checkpoint(REPOSITORY).config.task == "semantic"

    tensors = open_tensors(cache / WEIGHTS)
    (cache / WEIGHTS).rename(cache / "model-1.safetensors")
    (cache / INDEX).write_text(
        json.dumps({"weight_map": dict.fromkeys(tensors, "model-1.safetensors")})
    )
    open_checkpoint(REPOSITORY)


@pytest.mark.parametrize("offline", [True, False])
def test_real_client_without_the_model(cache, monkeypatch, capfd, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match=r"no folder somebody/else, .* can't be reached"):
        locate("somebody/else")
    with pytest.raises(FileNotFoundError, match="can't be reached"):
        locate(REPOSITORY, revision="v2")
    (cache / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=f"{REPOSITORY} has none of .* in the local cache"):
        locate(REPOSITORY)
    assert time.monotonic() - start < 5  # it would retry for 25 seconds
    assert capfd.readouterr().err == ""
