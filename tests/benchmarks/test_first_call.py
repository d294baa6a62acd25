"""Where the time of a first call goes."""

import json
import sys
import time
from types import SimpleNamespace

import first_call
import pytest


class OfPeer:
    """A peer's network, which takes a while."""

    SECONDS = 0.02

    def __init__(self, folder, options):
        assert (folder / "model.safetensors").is_file()
        assert options.size == (32, 64)

    def network(self, pixel_values):
        assert pixel_values.shape == (1, 32, 64, 3)
        return lambda: time.sleep(self.SECONDS)


@pytest.mark.usefixtures("in_this_process")
def test_parts_of_a_first_call(micro, tmp_path, monkeypatch):
    commands, fake = [], SimpleNamespace(Network=OfPeer)
    monkeypatch.setitem(sys.modules, "peers.networks.zeromodels", fake)
    monkeypatch.setattr(first_call, "check_installed", list)
    monkeypatch.setattr(
        first_call, "m2f", lambda *command, **more: commands.append((command, more))
    )
    path = tmp_path / "report.json"
    arguments = ["--preset", micro, "--size", 32, 64, "--repeats", 2, "--device", "cpu"]
    arguments += ["--peers", "zeromodels"]
    first_call.main([str(x) for x in (*arguments, "--json", path)])
    report = json.loads(path.read_text())
    assert [row["part"] for row in report["rows"]] == [
        "opening the model",
        "tracing the network",
        "lowering it to StableHLO",
        "compiling it, or reading it from the cache",
        "running it",
        "all of a Segmenter's first image, from resizing to instances",
        "m2f predict examples/street.jpg",
    ]
    assert all(row[first_call.EMPTY] > 0 < row[first_call.FILLED] for row in report["rows"])
    assert len(commands) == 3
    assert commands[0] == commands[1] == commands[2]  # the second finds what the first compiled
    assert first_call.EXAMPLE.is_file()
    assert report["settings"]["size"] == "32 x 64"
    ours = {row["part"]: row for row in report["rows"]}[first_call.SEGMENTER]
    for row, column in zip(
        report["beside peers"], (first_call.EMPTY, first_call.FILLED), strict=True
    ):
        assert row["values"]["m2f-jax"] == ours[column]
        assert row["values"]["zeromodels"] > OfPeer.SECONDS
        assert row["ratios"] == {"zeromodels": ours[column] / row["values"]["zeromodels"]}
