"""The benchmarks run."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import jax
import pytest

from m2f_jax import presets
from m2f_jax.config import (
    FPNPixelDecoderConfig,
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)
from m2f_jax.labels import numbered
from m2f_jax.model import parameter_shapes
from m2f_jax.presets import Preset
from m2f_jax.training import LossConfig, TrainConfig
from m2f_jax.training.recipes import recipe
from m2f_jax.training.step import Layout

MICRO = Mask2FormerConfig(
    labels=numbered(2),
    task="instance",
    backbone=SwinConfig(
        embed_dim=4, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=3, mlp_ratio=1.0
    ),
    pixel_decoder=PixelDecoderConfig(dim=32, mask_dim=8, num_layers=1, num_heads=2, ffn_dim=8),
    decoder=TransformerDecoderConfig(dim=32, num_layers=1, num_heads=2, ffn_dim=8, num_queries=5),
)


@pytest.fixture
def inference() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "inference.py"
    spec = importlib.util.spec_from_file_location("inference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.torch
@pytest.mark.slow
def test_inference(inference, monkeypatch, tmp_path, capsys):
    micro = Preset(
        config=MICRO, shortest_edge=32, longest_edge=64, object_mask_threshold=0.8, scores={}
    )
    monkeypatch.setattr(presets, "PRESETS", {"micro": micro})
    report = tmp_path / "report.json"
    arguments = [
        "--preset",
        "micro",
        "--size",
        "32",
        "64",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--json",
    ]
    inference.main([*arguments, str(report)])
    table = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(report.read_text())["rows"]}
    assert set(rows) == {
        "whole forward",
        "backbone",
        "pixel decoder",
        "Transformer decoder",
        "preprocessing",
        "post-processing",
        "import and load",
        "first call",
        "peak memory",
    }
    for name, row in rows.items():
        assert name in table
        assert min(row["values"].values()) > 0
        assert set(row["ratios"]) == {"transformers"}
    assert json.loads(report.read_text())["agreement"]["largest difference of mask logits"] < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "33", "64"], "--size: multiples of 32, not 33 64"),
        (["--peers", "detectron2"], "--peers: choose from transformers, zeromodels"),
        (["--repeats", "0"], "--batch and --repeats: 1 or more"),
    ],
)
def test_inference_refuses(inference, arguments, message, capsys):
    with pytest.raises(SystemExit):
        inference.main(arguments)
    assert message in capsys.readouterr().err


def test_inference_names_what_is_missing(inference, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(SystemExit, match=r"needs torch and transformers: pip install 'm2f-jax"):
        inference.main([])


@pytest.fixture
def training(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("training")


@pytest.mark.torch
@pytest.mark.slow
def test_training(training, monkeypatch, tmp_path, capsys):
    micro = Preset(
        config=MICRO, shortest_edge=32, longest_edge=64, object_mask_threshold=0.8, scores={}
    )
    monkeypatch.setattr(presets, "PRESETS", {"micro": micro})
    path = tmp_path / "report.json"
    arguments = ["--preset", "micro", "--size", "32", "64", "--steps", "4", "--device", "cpu"]
    training.main([*arguments, "--json", str(path)])
    report = json.loads(path.read_text())
    agreement = report["agreement"]
    assert agreement["same points, step 1"] < 1e-5  # the benchmark itself allows TOLERANCE
    assert agreement["same points, largest"] < training.TOLERANCE
    assert 1e-6 < agreement["own points, step 1"] < 0.05
    table = capsys.readouterr().out
    for row in report["rows"]:
        assert f"| {row['name']} |" in table
        assert min(row["ours"], row["theirs"]) > 0
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
    assert {name: len(runs) for name, runs in report["runs"].items()} == {
        "m2f-jax": 1,
        "transformers": 1,
        "transformers, our points": 1,
    }
    for [run] in report["runs"].values():
        assert len(run["losses"]) == len(run["seconds"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64", "33"], "--size: multiples of 32, not 64 33"),
        (["--repeats", "0"], "--batch and --repeats: 1 or more"),
        (["--steps", "2"], "--steps: more than 2, which aren't timed"),
    ],
)
def test_training_refuses(training, arguments, message, capsys):
    with pytest.raises(SystemExit):
        training.main(arguments)
    assert message in capsys.readouterr().err


@pytest.fixture
def ablations(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("ablations")


@pytest.mark.slow
def test_ablations(ablations, monkeypatch, tmp_path, capsys):
    model = dataclasses.replace(MICRO, task="panoptic")
    micro = TrainConfig(model=model, loss=LossConfig(num_points=32))
    monkeypatch.setattr(ablations, "STREETS", dataclasses.replace(ablations.STREETS, train=micro))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    data, out = tmp_path / "streets", tmp_path / "out"
    arguments = ["--data", data, "--out", out, "--variants", "maskformer", "--images", 3, 2]
    arguments += ["--steps", 4, "--batch-size", 1, "--size", 64, 128]
    ablations.main([str(x) for x in arguments])
    assert len(list(data.rglob("*_leftImg8bit.png"))) == 5
    trained = recipe(str(out / "maskformer" / "recipe.json")).train
    assert (
        trained
        == ablations.changed(
            ablations.base_recipe((64, 128)), ablations.VARIANTS["maskformer"][1]
        ).train
    )
    [row] = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["variant"] == "all three (MaskFormer's design)"
    saved = Mask2FormerConfig.load(out / "maskformer" / "run" / "model" / "config.json")
    assert isinstance(saved.pixel_decoder, FPNPixelDecoderConfig)
    assert row["parameters"] == sum(map(math.prod, parameter_shapes(saved).values()))
    assert min(row["steps/s"], row["memory, GiB"], row["loss"]) > 0
    assert all(0 <= row[name] <= 100 for name in ("PQ", "AP", "mIoU"))


def test_ablations_differ_in_what_they_say(ablations):
    base = ablations.base_recipe((128, 256))
    changed = {name: ablations.changed(base, x) for name, (_, x) in ablations.VARIANTS.items()}
    designs = {
        name: (
            recipe.train.model.decoder.masked,
            type(recipe.train.model.pixel_decoder),
            recipe.train.loss.num_points,
        )
        for name, recipe in changed.items()
    }
    assert designs == {
        "mask2former": (True, PixelDecoderConfig, 512),
        "plain-attention": (False, PixelDecoderConfig, 512),
        "fpn": (True, FPNPixelDecoderConfig, 512),
        "whole-masks": (True, PixelDecoderConfig, None),
        "maskformer": (False, FPNPixelDecoderConfig, None),
    }
    assert changed["mask2former"] == base
    assert base.augmentation == ablations.STREETS.augmentation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "2"], "--steps: 3 or more, of which the first aren't timed"),
        (["--batch-size", "0"], "--batch-size and --images: 1 or more"),
        (["--variants", "resnet"], "invalid choice: 'resnet'"),
    ],
)
def test_ablations_refuses(ablations, arguments, message, capsys):
    with pytest.raises(SystemExit):
        ablations.main(["--data", "streets", *arguments])
    assert message in capsys.readouterr().err


@pytest.fixture
def window_attention(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("window_attention")


@pytest.mark.parametrize(
    ("backend", "message"),
    [("cpu", "JAX has no GPU here, only"), ("gpu", "jax_triton isn't installed")],
)
def test_window_attention_names_what_is_missing(window_attention, monkeypatch, backend, message):
    monkeypatch.setattr(window_attention.jax, "default_backend", lambda: backend)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(
        SystemExit, match=rf"{message}.*This needs an NVIDIA GPU and jax-triton: pip"
    ):
        window_attention.main([])


def test_window_attention_takes_the_maps_of_all_stages(window_attention):
    maps = window_attention.maps_of_stages(SwinConfig(num_heads=(3, 6, 12, 24)), (100, 200))
    assert [(x.height, x.width, x.heads, x.shifted) for x in maps] == [
        (25, 50, 3, False),
        (25, 50, 3, True),
        (13, 25, 6, False),
        (13, 25, 6, True),
        (7, 13, 12, False),
        (7, 13, 12, True),
        (4, 7, 24, False),
        (4, 7, 24, True),
    ]
    assert {(x.head_width, x.window_size) for x in maps} == {(32, 7)}


@pytest.fixture
def tpu_aot(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("tpu_aot")


@pytest.fixture
def micro(monkeypatch) -> str:
    """The name of a published model that is a far smaller one now."""
    name = "swin-tiny-coco-instance"
    published = Preset(
        config=MICRO, shortest_edge=32, longest_edge=64, object_mask_threshold=0.8, scores={}
    )
    monkeypatch.setitem(presets.PRESETS, name, published)
    return name


def count_micro() -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(MICRO).values())


def test_tpu_aot(tpu_aot, micro, monkeypatch, capsys):
    chips = []
    monkeypatch.setattr(tpu_aot, "one_chip", lambda name: chips.append(name) or Layout.over())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"that of {name}")
    arguments = ["--model", micro, "--topology", "v6e:2x2", "--programs", "inference"]
    tpu_aot.main([*arguments, "--size", "32", "64"])
    assert chips == ["v6e:2x2"]
    *table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["versions"] == {"jax": "that of jax", "libtpu": "that of libtpu"}
    [row] = report["rows"]
    assert row["program"] == "inference"
    images = 32 * 64 * 3 * 4
    assert 2 * count_micro() + images < row["arguments"] < 4 * count_micro() + images
    assert row["temporaries"] > 0
    assert row["peak memory"] > row["arguments"]
    assert any("inference" in line for line in table)


def test_tpu_aot_lowers_training(tpu_aot, micro):
    lowered = tpu_aot.lower_training(micro, (32, 64), 2, Layout.over())
    (count, parameters, optimizer, batch, _), _ = lowered.args_info
    assert {x.dtype.name for x in jax.tree.leaves(parameters)} == {"float32"}
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(parameters)) == count_micro()
    averages = [x for x in jax.tree.leaves(optimizer) if x.dtype.name == "float32"]
    assert sum(math.prod(x.shape) for x in averages) == 2 * count_micro()
    donated = {
        name: {x.donated for x in jax.tree.leaves(tree)}
        for name, tree in [
            ("count", count),
            ("parameters", parameters),
            ("optimizer", optimizer),
            ("batch", batch),
        ]
    }
    assert donated == {
        "count": {False},
        "parameters": {True},
        "optimizer": {True},
        "batch": {False},
    }
    assert batch.pixel_values.shape == (2, 32, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "31", "64"], "sides are at least 32, --train-batch at least 1"),
        (["--train-batch", "0"], "sides are at least 32, --train-batch at least 1"),
        (["--programs", "export"], "--programs: invalid choice: 'export'"),
    ],
)
def test_tpu_aot_refuses(tpu_aot, arguments, message, capsys):
    with pytest.raises(SystemExit):
        tpu_aot.main(arguments)
    assert message in capsys.readouterr().err


def test_tpu_aot_names_what_is_missing(tpu_aot, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(SystemExit, match=r"needs TPU's compiler: pip install 'm2f-jax\[tpu\]'"):
        tpu_aot.main([])


def test_tpu_aot_fails_above_its_limit(tpu_aot, monkeypatch):
    row = {"program": "inference", "temporaries": 2**31 + 1}
    monkeypatch.setattr(tpu_aot, "one_chip", lambda name: name)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: name)
    monkeypatch.setattr(tpu_aot, "compile_program", lambda *_: row)
    with pytest.raises(SystemExit, match="inference takes more than 2 GiB of temporaries"):
        tpu_aot.main(["--programs", "inference"])
