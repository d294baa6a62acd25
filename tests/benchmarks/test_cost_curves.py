"""How time and memory grow."""

import functools
import importlib.util
import json
from dataclasses import fields
from types import SimpleNamespace
from unittest.mock import MagicMock

import cost_curves
import jax
import pytest
from measuring.programs import Program

from m2f_jax.config import VideoMask2FormerConfig


def test_cost_curves_are_recorded_with_what_they_were_measured_on(micro, tmp_path, monkeypatch):
    monkeypatch.setattr(cost_curves, "SIZES", ((32, 32), (32, 64), (64, 64)))
    monkeypatch.setattr(cost_curves, "BATCHES", (1, 4))
    monkeypatch.setattr(cost_curves, "QUERIES", (3, 6))
    monkeypatch.setattr(cost_curves, "BATCH_SIZE_FOR_QUERIES", (32, 32))
    quick = functools.partial(Program.compile, flags={"xla_backend_optimization_level": 0})
    monkeypatch.setattr(Program, "compile", quick)
    arguments = ["--preset", micro, "--axes", "pixels", "batch", "queries", "--seconds", "0.01"]
    cost_curves.main([*arguments, "--max-pixels", "0.003", "--json", str(tmp_path / "c.json")])
    record = json.loads((tmp_path / "c.json").read_text())
    assert record["settings"] == {"preset": micro, "dtype": "float32", "device": "cpu"}
    assert {"CPU", "processors"} < set(record["machine"])
    assert {"m2f-jax", "jax", "flax"} < set(record["versions"])
    tables = record["tables"]
    assert [row["size"] for row in tables["pixels"]] == ["32 x 32", "32 x 64"]  # 64 x 64: too large
    assert [row["batch"] for row in tables["batch"]] == [1]
    assert [row["queries"] for row in tables["queries"]] == [3, 6]
    for rows in tables.values():
        memory = [row["temporaries MiB"] for row in rows]
        assert memory == sorted(set(memory))
        assert all(row["ms"] > 0 for row in rows)


def test_images_of_a_video_model_are_the_frames_of_a_clip(micro_config, monkeypatch):
    parts = {field.name: getattr(micro_config, field.name) for field in fields(micro_config)}
    config = VideoMask2FormerConfig(**parts)
    shapes = []

    def trace(function, *arguments):
        shapes.append(jax.eval_shape(function, *arguments).mask_logits.shape)
        return Program(SimpleNamespace(memory_analysis=MagicMock()), 0.0, 0.0)

    monkeypatch.setattr(Program, "compile", trace)
    monkeypatch.setattr(cost_curves, "time_of", lambda call, seconds: 0.0)  # noqa: ARG005
    options = cost_curves.Options(dtype="float32")
    assert cost_curves.measure(config, (32, 64), 3, options)["batch"] == 3
    assert shapes == [(1, 5, 3, 8, 16)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "curves.png"], "--plot needs matplotlib"),
        (["--plot", "curves.png", "--axes", "devices"], "--plot draws curves along pixels"),
        (["--plot", "missing/curves.png"], "missing/curves.png is a folder, or is in one that"),
        (["--max-pixels", "0.1"], "--max-pixels: the smallest image has 0.147 million"),
        (["--preset", "swin-huge"], "--preset: .*swin-huge"),
    ],
)
def test_cost_curves_refuse_before_they_measure(arguments, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    monkeypatch.delattr(cost_curves, "measure")
    with pytest.raises(SystemExit, match=message):
        cost_curves.main(arguments)
