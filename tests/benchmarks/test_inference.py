"""The network beside its peers."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import inference
import numpy as np
import pytest


@pytest.mark.torch
@pytest.mark.usefixtures("in_this_process")
def test_inference(micro, tmp_path, capsys):
    path, document = tmp_path / "report.json", tmp_path / "report.md"
    arguments = ["--preset", micro, "--size", 32, 64, "--repeats", 1, "--device", "cpu"]
    inference.main([str(x) for x in (*arguments, "--json", path, "--markdown", document)])
    table = capsys.readouterr().out
    report = json.loads(path.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert set(rows) == {
        "whole forward",
        "backbone",
        "pixel decoder",
        "Transformer decoder",
        "preprocessing",
        "post-processing, instances",
        "post-processing, semantic map",
        "post-processing, panoptic map",
        "image to instances",
        "import and load",
        "first call",
        "first call from the persistent cache",
        "peak memory",
    }
    for name, row in rows.items():
        assert name in table
        assert f"| {name}, {row['unit']} |" in document.read_text()
        assert min(row["values"].values()) > 0
        assert set(row["ratios"]) == {"transformers"}
    assert report["agreement"]["transformers, largest difference of mask logits"] < 1e-5
    for name in rows:
        if name.endswith(" map"):
            assert 95 < report["agreement"][f"transformers, {name}, equal pixels, %"] <= 100
    assert report["settings"] == {
        "preset": micro,
        "size": "32 x 64",
        "batch": 1,
        "dtype": "float32",
        "float32 products": "full precision",
        "device": "cpu",
        "threads": report["settings"]["threads"],
        "peers": "transformers",
        "torch.compile": False,
    }


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_openvino_is_given_channels_first_and_returns_class_then_mask_logits(dtype, monkeypatch):
    """With a network of one operation each, since that of transformers takes a minute to trace."""
    import torch
    from peers.networks import openvino

    class Toy(torch.nn.Module):
        def forward(self, pixel_values):
            return SimpleNamespace(
                masks_queries_logits=pixel_values[:, :2] * 2,
                class_queries_logits=pixel_values.mean((2, 3)),
            )

    models = SimpleNamespace(from_pretrained=lambda folder: Toy())  # noqa: ARG005
    monkeypatch.setattr(openvino, "AutoModelForUniversalSegmentation", models)
    options = inference.Options(size=(32, 64), device="cpu", threads=1, dtype=dtype)
    peer = openvino.Network(Path("unread"), options)
    images = np.random.default_rng(0).normal(size=(1, 32, 64, 3)).astype(np.float32)
    classes, masks = peer.predictions(images)
    tolerance = {"float32": 1e-6, "bfloat16": 2**-7}[dtype]
    np.testing.assert_allclose(classes, images.mean((1, 2)), atol=tolerance)
    expected = np.moveaxis(2 * images[..., :2], -1, 1)
    np.testing.assert_allclose(masks, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "33", "64"], r"--size: multiples of 32, not \(33, 64\)"),
        (["--peers"], "--peers: at least one"),
        (["--repeats", "0"], "--repeats must be 1 or more, not 0"),
        (["--json", "nowhere/report.json"], "--json: nowhere/report.json is a folder, or is in"),
    ],
)
def test_inference_refuses(arguments, message):
    with pytest.raises(SystemExit, match=message):
        inference.main(arguments)


def test_inference_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(SystemExit, match=r"needs torch and transformers: pip install 'm2f-jax"):
        inference.main([])


def test_unknown_peers_are_refused(capsys):
    with pytest.raises(SystemExit):
        inference.main(["--peers", "detectron2"])
    assert "invalid choice 'detectron2' for argument '--peers'" in capsys.readouterr().err
