"""The deformable attention beside transformers' and a kernel."""

import importlib
import json
import sys
from types import ModuleType

import deformable_attention
import pytest

SMALL = {"size": (32, 64), "heads": 2, "points": 1, "device": "cpu", "repeats": 1, "threads": 1}
OPERATOR = ["--size", "32", "64", "--heads", "2", "--points", "1", "--device", "cpu"]
OPERATOR += ["--repeats", "1"]


@pytest.mark.torch
def test_deformable_attention(monkeypatch, tmp_path, capsys):
    path, document = tmp_path / "report.json", tmp_path / "report.md"
    measured = deformable_attention.measure(deformable_attention.Options(**SMALL))
    monkeypatch.setattr(deformable_attention, "measure", lambda _: measured)
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
def test_deformable_attention_beside_a_kernel(monkeypatch):
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
    peers = ("transformers", "torch-ms-deform-attn")
    options = deformable_attention.Options(**SMALL, dtype="bfloat16", peers=peers)
    agreement, rows = deformable_attention.measure(options)
    assert agreement["from torch-ms-deform-attn"] == agreement["from transformers"]
    assert set(rows[1].ratios) == {"transformers", "torch-ms-deform-attn"}


@pytest.mark.torch
def test_deformable_attention_fails_if_it_differs(monkeypatch):
    operator = importlib.import_module("peers.operators.transformers").Operator
    right = operator.operator
    monkeypatch.setattr(
        operator,
        "operator",
        lambda self, values, x, weights: right(self, values, x, weights**1.001),
    )
    with pytest.raises(SystemExit, match=r"the result differs by .* from transformers"):
        deformable_attention.main(OPERATOR)
