"""Where the time of a first call goes."""

import json

import first_call
import pytest


@pytest.mark.usefixtures("in_this_process")
def test_parts_of_a_first_call(micro, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(
        first_call, "m2f", lambda *command, **more: commands.append((command, more))
    )
    path = tmp_path / "report.json"
    arguments = ["--preset", micro, "--size", 32, 64, "--repeats", 2, "--device", "cpu"]
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
