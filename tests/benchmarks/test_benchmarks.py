"""The benchmarks run."""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import sys
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
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
from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.presets import Preset
from m2f_jax.training import LossConfig, TrainConfig
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.recipes import recipe

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
def micro(monkeypatch) -> str:
    """The name of a published model that is a far smaller one now."""
    name = "swin-tiny-coco-instance"
    published = Preset(
        config=MICRO, shortest_edge=32, longest_edge=64, object_mask_threshold=0.8, scores={}
    )
    monkeypatch.setitem(presets.PRESETS, name, published)
    return name


@pytest.fixture
def inference() -> ModuleType:
    return importlib.import_module("inference")


@pytest.mark.torch
@pytest.mark.slow
def test_inference(inference, micro, tmp_path, capsys):
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
        "post-processing",
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
    assert report["agreement"]["largest difference of mask logits"] < 1e-5
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "33", "64"], "--size: multiples of 32, not 33"),
        (["--peers", "detectron2"], "--peers: invalid choice: 'detectron2'"),
        (["--repeats", "0"], "--repeats: 1 or more, not 0"),
        (["--json", "nowhere/report.json"], "--json: nowhere/report.json is a folder, or is in"),
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
def training() -> ModuleType:
    return importlib.import_module("training")


@pytest.mark.torch
@pytest.mark.slow
def test_training(training, micro, tmp_path, capsys):
    path = tmp_path / "report.json"
    arguments = ["--preset", micro, "--size", "32", "64", "--steps", "4", "--device", "cpu"]
    training.main([*arguments, "--json", str(path)])
    report = json.loads(path.read_text())
    agreement = report["agreement"]
    assert agreement["same points, step 1"] < 1e-5  # the benchmark itself allows TOLERANCE
    assert agreement["same points, largest"] < training.TOLERANCE
    assert 1e-6 < agreement["own points, step 1"] < 0.05
    table = capsys.readouterr().out
    for row in report["rows"]:
        assert f"{row['name']}, {row['unit']}" in table
        ours, theirs = row["values"]["m2f-jax"], row["values"]["transformers"]
        assert min(ours, theirs) > 0
        assert row["ratios"]["transformers"] == pytest.approx(ours / theirs)
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
        (["--size", "64", "33"], "--size: multiples of 32, not 33"),
        (["--repeats", "0"], "--repeats: 1 or more, not 0"),
        (["--steps", "2"], "--steps: more than 2, which aren't timed"),
    ],
)
def test_training_refuses(training, arguments, message, capsys):
    with pytest.raises(SystemExit):
        training.main(arguments)
    assert message in capsys.readouterr().err


@pytest.fixture
def deformable_attention() -> ModuleType:
    return importlib.import_module("deformable_attention")


OPERATOR = ["--size", "32", "64", "--heads", "2", "--points", "1", "--device", "cpu"]
OPERATOR += ["--repeats", "1"]


@pytest.mark.torch
@pytest.mark.slow
def test_deformable_attention(deformable_attention, monkeypatch, tmp_path, capsys):
    path, document = tmp_path / "report.json", tmp_path / "report.md"
    deformable_attention.main([*OPERATOR, "--json", str(path), "--markdown", str(document)])
    table = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert max(report["agreement"]["from transformers"].values()) < 1e-6
    for row in report["rows"]:
        assert f"{row['name']}, {row['unit']}" in table
        assert f"| {row['name']}, {row['unit']} |" in document.read_text()
        assert min(row["values"].values()) > 0
        assert set(row["ratios"]) == ({"transformers"} if row["unit"] == "ms" else set())

    faster = {**report, "rows": [{**row, "ratios": {}} for row in report["rows"]]}
    faster["rows"][0]["ratios"] = {
        "transformers": report["rows"][0]["ratios"]["transformers"] / 1e6
    }
    path.write_text(json.dumps(faster))
    with pytest.raises(SystemExit, match=r"by more than 10 %: forward, ms, transformers$"):
        deformable_attention.main([*OPERATOR, "--against", str(path)])
    assert "worse" in capsys.readouterr().out
    monkeypatch.setattr(deformable_attention, "measure", None)  # nothing is measured in vain
    with pytest.raises(SystemExit, match=r"of other settings: dtype float32, now bfloat16$"):
        deformable_attention.main([*OPERATOR, "--against", str(path), "--dtype", "bfloat16"])


@pytest.mark.torch
def test_deformable_attention_beside_a_kernel(deformable_attention, monkeypatch):
    """The package for CUDA has other arguments; here it is a function of transformers."""
    from transformers.models.mask2former.modeling_mask2former import (
        multi_scale_deformable_attention,
    )

    def kernel(values, sizes, starts, locations, weights):
        assert starts.tolist() == [0, 2, 10]
        return multi_scale_deformable_attention(values, sizes.tolist(), locations, weights)

    package = ModuleType("torch_ms_deform_attn")
    package.ms_deform_attn = kernel
    monkeypatch.setitem(sys.modules, package.__name__, package)
    settings = deformable_attention.Settings(
        size=(32, 64),
        heads=1,
        points=1,
        dtype="bfloat16",
        device="cpu",
        repeats=1,
        threads=1,
        peers=("transformers", deformable_attention.KERNEL),
    )
    agreement, rows = deformable_attention.measure(settings)
    assert agreement["from torch-ms-deform-attn"] == agreement["from transformers"]
    assert set(rows[1].ratios) == {"transformers", "torch-ms-deform-attn"}


@pytest.mark.torch
def test_deformable_attention_fails_if_it_differs(deformable_attention, monkeypatch):
    def operator(settings):
        right = deformable_attention.transformers_operator(settings)
        return lambda values, locations, weights: right(values, locations, weights**1.001)

    monkeypatch.setitem(deformable_attention.PEERS, "transformers", operator)
    with pytest.raises(SystemExit, match=r"the result differs by .* from transformers"):
        deformable_attention.main(OPERATOR)


def test_matching(monkeypatch, tmp_path):
    matching = importlib.import_module("matching")
    monkeypatch.setattr(matching, "SHAPES", ((2, 3),))
    path = tmp_path / "report.json"
    matching.main(["--problems", "1", "--repeats", "1", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert [(row["name"], row["unit"]) for row in rows[:3]] == [
        ("queries alike, 2 x 3", "ms"),
        ("queries alike, 2 x 3", "steps"),
        ("queries apart, 2 x 3", "ms"),
    ]
    assert set(rows[0]["ratios"]) == {"optax", "SciPy"}
    assert set(rows[1]["ratios"]) == {"optax"}


@pytest.fixture
def reporting() -> ModuleType:
    return importlib.import_module("reporting")


def make_report(reporting, ratios: dict[str, float], **notes) -> Any:
    return reporting.Report(
        benchmark="inference",
        title="a model",
        settings={"batch": 2, "sides": (32, 64)},
        notes={"machine": {"CPU": "one"}, "versions": {"jax": "0.10"}, **notes},
        rows=[
            reporting.Row.of(name, "ms", {"m2f-jax": x, "other": 1.0}) for name, x in ratios.items()
        ],
    )


def publish(reporting, report: Any, *arguments: Any):
    parser = argparse.ArgumentParser()
    reporting.add_record_options(parser)
    options = parser.parse_args([str(x) for x in arguments])
    record = reporting.read_record(options, report.benchmark, report.settings)
    reporting.publish_report(options, report, record)


def test_reports_are_written(reporting, tmp_path):
    report = make_report(reporting, {"forward": 0.5, "backward": 1234.5}, agreement={"by": 1e-7})
    publish(reporting, report, "--json", tmp_path / "a.json", "--markdown", tmp_path / "a.md")
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["rows"][0] == {
        "name": "forward",
        "unit": "ms",
        "values": {"m2f-jax": 0.5, "other": 1.0},
        "ratios": {"other": 0.5},
    }
    assert (
        (tmp_path / "a.md").read_text()
        == """\
## a model

|  | m2f-jax | other | ours / theirs |
| --- | ---: | ---: | ---: |
| forward, ms | 0.500 | 1.00 | 0.50 |
| backward, ms | 1,234 | 1.00 | 1234.50 |

- machine: CPU one
- versions: jax 0.10
- agreement: by 1e-07
- settings: batch 2, sides (32, 64)
"""
    )


def test_a_worse_ratio_is_an_error(reporting, tmp_path, capsys):
    path = tmp_path / "record.json"
    publish(reporting, make_report(reporting, {"a": 0.5, "b": 0.5, "gone": 1.0}), "--json", path)
    capsys.readouterr()
    now = make_report(reporting, {"a": 0.56, "b": 0.4, "new": 2.0})
    with pytest.raises(SystemExit) as exit_:
        publish(reporting, now, "--against", path, "--markdown", tmp_path / "now.md")
    assert exit_.value.code == "worse than recorded by more than 10 %: a, ms, other"
    lines = [
        "| a, ms, other | 0.50 | 0.56 | +12 % | worse |",
        "| b, ms, other | 0.50 | 0.40 | -20 % |  |",
        "| gone, ms, other | 1.00 |  |  | gone |",
        "| new, ms, other |  | 2.00 |  | new |",
    ]
    assert "\n".join(lines) in (tmp_path / "now.md").read_text()
    publish(reporting, now, "--against", path, "--margin", 15)
    assert "since the record: machine as recorded, versions as recorded" in capsys.readouterr().out


def test_versions_since_the_record_are_told(reporting, tmp_path, capsys):
    path = tmp_path / "record.json"
    publish(reporting, make_report(reporting, {"a": 0.5}), "--json", path)
    now = make_report(reporting, {"a": 0.5}, versions={"jax": "0.11", "torch": "2.13"})
    publish(reporting, now, "--against", path)
    assert "versions jax 0.10, now 0.11; torch nothing, now 2.13" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"settings": {"batch": 1, "sides": [32, 64]}}, "of other settings: batch 1, now 2$"),
        ({"benchmark": "training"}, "of training.py, not of inference.py$"),
        ({"settings": None}, "not a report that --json wrote"),
    ],
)
def test_other_records_are_refused(reporting, tmp_path, changed, message):
    path, report = tmp_path / "record.json", make_report(reporting, {"a": 0.5})
    path.write_text(json.dumps({**report.content(), **changed}))
    with pytest.raises(SystemExit, match=message):
        publish(reporting, report, "--against", path)


@pytest.fixture
def ablations() -> ModuleType:
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
    report = tmp_path / "report.json"
    ablations.main([str(x) for x in (*arguments, "--json", report)])
    assert len(list(data.rglob("*_leftImg8bit.png"))) == 5
    trained = recipe(str(out / "maskformer" / "recipe.json")).train
    assert (
        trained
        == ablations.changed(
            ablations.base_recipe((64, 128)), ablations.VARIANTS["maskformer"][1]
        ).train
    )
    [row] = json.loads(report.read_text())["rows"]
    assert row["variant"] in capsys.readouterr().out
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
def window_forms() -> ModuleType:
    return importlib.import_module("window_forms")


def test_forms_of_window_attention_agree(window_forms):
    for shape in window_forms.SMALL:
        arrays = window_forms.draw(shape, jnp.float32)
        want = window_forms.reference(shape, arrays)
        for form in window_forms.forms_of(shape, "cpu").values():
            assert window_forms.relative_error(form(*arrays), want) < 1e-6


def test_window_attention_takes_the_maps_of_all_stages(window_forms):
    maps = window_forms.maps_of_stages(SwinConfig(num_heads=(3, 6, 12, 24)), (100, 200))
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
def aot(request, monkeypatch) -> ModuleType:
    """A benchmark that compiles ahead of time, for the device that is there."""
    module = importlib.import_module(f"{request.param}_aot")
    if request.param == "tpu":
        monkeypatch.setattr(module, "one_chip", lambda _: Partitioner.over())
    else:
        monkeypatch.setattr(module, "one_gpu", Partitioner.over)
    monkeypatch.setattr("machine.version", lambda name: f"that of {name}")
    return module


def count_micro() -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(MICRO).values())


@pytest.mark.parametrize(
    ("aot", "device", "compiler", "more"),
    [
        ("tpu", "one chip of v6e:2x2", "libtpu", {"program size MiB"}),
        ("gpu", "an H100", "jax-cuda12-plugin", {"kernels", "fusions", "library calls", "others"}),
    ],
    indirect=["aot"],
)
def test_programs_compiled_ahead_of_time(aot, device, compiler, more, micro, tmp_path, capsys):
    arguments = ["--model", micro, "--programs", "inference", "--size", "32", "64"]
    arguments += ["--topology", "v6e:2x2"] if "one chip" in device else []
    aot.main([*arguments, "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["benchmark"] == aot.__name__
    assert report["settings"]["device"] == device
    assert report["settings"]["inference"] == "1 x 32 x 64"
    assert {"python", "m2f-jax", "jax", "flax"} < set(report["versions"])
    assert report["versions"][compiler] == f"that of {compiler}"
    [row] = report["rows"]
    assert row["program"] == "inference"
    assert more < set(row)
    images, parameters = 32 * 64 * 3 * 4, count_micro()
    arguments_size = row["arguments MiB"] * 2**20
    assert 2 * parameters + images < arguments_size < 4 * parameters + images
    assert row["temporaries MiB"] > 0
    assert row["peak memory MiB"] > row["arguments MiB"]
    for table in (capsys.readouterr().out, (tmp_path / "a.md").read_text()):
        assert f"compiled for {device}" in table
        assert "inference" in table


@pytest.mark.parametrize("remat", [False, True])
def test_training_lowered_ahead_of_time(micro, remat):
    options = argparse.Namespace(model=micro, train_size=(32, 64), train_batch=2, remat=remat)
    lowered = importlib.import_module("ahead_of_time").lower_training(options, Partitioner.over())
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


@pytest.mark.parametrize("name", ["tpu_aot", "gpu_aot"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "31", "64"], "sides are at least 32"),
        (["--train-batch", "0"], "--batch and --train-batch are at least 1"),
        (["--programs", "export"], "--programs: invalid choice: 'export'"),
    ],
)
def test_ahead_of_time_refuses(name, arguments, message, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(name).main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu_aot", r"needs TPU's compiler: pip install 'm2f-jax\[tpu\]'"),
        ("gpu_aot", r"needs jax-cuda12-plugin, .* for a GPU: pip install 'm2f-jax\[aot\]'"),
    ],
)
def test_ahead_of_time_names_what_is_missing(name, message, monkeypatch):
    benchmark = importlib.import_module(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(SystemExit, match=message):
        benchmark.main([])


def test_tpu_aot_fails_above_its_limit(monkeypatch):
    tpu_aot = importlib.import_module("tpu_aot")
    row = {"program": "inference", "temporaries MiB": 2049.0}
    monkeypatch.setattr(tpu_aot, "one_chip", lambda name: name)
    monkeypatch.setattr("machine.version", lambda name: name)
    monkeypatch.setattr(tpu_aot, "compile_program", lambda *_: row)
    with pytest.raises(SystemExit, match="inference takes more than 2 GiB of temporaries"):
        tpu_aot.main(["--programs", "inference"])


def test_cost_curves_are_recorded_with_what_they_were_measured_on(micro, tmp_path, monkeypatch):
    cost_curves = importlib.import_module("cost_curves")
    monkeypatch.setattr(cost_curves, "SIZES", ((32, 32), (32, 64), (64, 64)))
    monkeypatch.setattr(cost_curves, "BATCHES", (1, 4))
    monkeypatch.setattr(cost_curves, "QUERIES", (3, 6))
    monkeypatch.setattr(cost_curves, "BATCH_SIZE_FOR_QUERIES", (32, 32))
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "curves.png"], "--plot needs matplotlib"),
        (["--plot", "curves.png", "--axes", "devices"], "--plot draws curves along pixels"),
        (["--plot", "missing/curves.png"], "missing/curves.png is a folder, or is in one that"),
        (["--max-pixels", "0.1"], "--max-pixels: the smallest image has 0.147 million"),
        (["--preset", "swin-huge"], "--preset: invalid choice: 'swin-huge'"),
    ],
)
def test_cost_curves_refuse_before_they_measure(arguments, message, monkeypatch, capsys):
    cost_curves = importlib.import_module("cost_curves")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    monkeypatch.delattr(cost_curves, "measure")
    with pytest.raises(SystemExit):
        cost_curves.main(arguments)
    assert message in capsys.readouterr().err
