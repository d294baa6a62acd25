"""Programs compiled for a device that isn't there, here for one that is."""

import importlib
import json
import math
from types import ModuleType

import jax
import pytest
from ahead_of_time import compiling

from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.training.partitioning import Partitioner


@pytest.fixture
def aot(request, monkeypatch) -> ModuleType:
    """A benchmark that compiles ahead of time, for the device that is there."""
    module = importlib.import_module(f"{request.param}_aot")
    if request.param == "tpu":
        monkeypatch.setattr(module, "one_chip", lambda _: Partitioner.over())
    else:
        monkeypatch.setattr(module, "one_gpu", Partitioner.over)
    monkeypatch.setattr("measuring.machine.version", lambda name: f"that of {name}")
    return module


@pytest.fixture
def num_parameters(micro_config) -> int:
    return sum(map(math.prod, parameter_shapes(micro_config).values()))


@pytest.mark.parametrize(
    ("aot", "device", "compiler", "more"),
    [
        ("tpu", "one chip of v6e:2x2", "libtpu", {"program size MiB"}),
        ("gpu", "an H100", "jax-cuda12-plugin", {"kernels", "fusions", "library calls", "others"}),
    ],
    indirect=["aot"],
)
def test_programs_compiled_ahead_of_time(
    aot, device, compiler, more, micro, num_parameters, tmp_path, capsys
):
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
    images, parameters = 32 * 64 * 3 * 4, num_parameters
    arguments_size = row["arguments MiB"] * 2**20
    assert 2 * parameters + images < arguments_size < 4 * parameters + images
    assert row["temporaries MiB"] > 0
    assert row["peak memory MiB"] > row["arguments MiB"]
    for table in (capsys.readouterr().out, (tmp_path / "a.md").read_text()):
        assert f"compiled for {device}" in table
        assert "inference" in table


@pytest.mark.parametrize("remat", [False, True])
def test_training_lowered_ahead_of_time(micro, num_parameters, remat):
    options = compiling.Options(model=micro, train_size=(32, 64), train_batch=2, remat=remat)
    function, arguments = compiling.training(options, Partitioner.over())
    lowered = function.lower(*arguments)
    (count, parameters, optimizer, batch, _), _ = lowered.args_info
    assert {x.dtype.name for x in jax.tree.leaves(parameters)} == {"float32"}
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(parameters)) == num_parameters
    averages = [x for x in jax.tree.leaves(optimizer) if x.dtype.name == "float32"]
    assert sum(math.prod(x.shape) for x in averages) == 2 * num_parameters
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
        (["--size", "31", "64"], r"--size must be 32 or more, not \(31, 64\)"),
        (["--train-batch", "0"], "--train-batch must be 1 or more, not 0"),
        (["--model", "resnet"], "--model: "),
    ],
)
def test_ahead_of_time_refuses(name, arguments, message):
    with pytest.raises(SystemExit, match=message):
        importlib.import_module(name).main(arguments)


def test_unknown_programs_are_refused(capsys):
    with pytest.raises(SystemExit):
        importlib.import_module("gpu_aot").main(["--programs", "export"])
    assert "invalid choice 'export'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu_aot", r"needs TPU's compiler: pip install 'm2f-jax\[tpu\]'"),
        ("gpu_aot", r"needs jax-cuda12-plugin, .* for a GPU: pip install 'm2f-jax\[aot\]'"),
    ],
)
def test_ahead_of_time_names_what_is_missing(name, message, monkeypatch):
    benchmark = importlib.import_module(name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(SystemExit, match=message):
        benchmark.main([])


def test_tpu_aot_fails_above_its_limit(monkeypatch):
    tpu_aot = importlib.import_module("tpu_aot")
    row = {"program": "inference", "temporaries MiB": 2049.0}
    monkeypatch.setattr(tpu_aot, "one_chip", lambda name: name)
    monkeypatch.setattr("measuring.machine.version", lambda name: name)
    monkeypatch.setattr(tpu_aot, "compile_program", lambda *_: row)
    with pytest.raises(SystemExit, match="inference takes more than 2 GiB of temporaries"):
        tpu_aot.main(["--programs", "inference"])
