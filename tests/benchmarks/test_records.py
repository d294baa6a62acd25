"""Reports and records: tables, files, and ratios beside recorded ones."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import deformable_attention
import inference
import pytest
from measuring.options import Compared, compared, parse
from measuring.records import Comparison, Row, ratios_of

ROOT = Path(__file__).parents[2]
SETTINGS = {"batch": 2, "sides": (32, 64)}


def publish(ratios: dict[str, float], *arguments: Any, **notes: dict[str, Any]):
    """Reports a run with these ratios."""
    usual = {"machine": {"CPU": "one"}, "versions": {"jax": "0.10"}}
    options = parse(Compared, [str(x) for x in arguments])
    comparison = Comparison("inference", options, SETTINGS, {**usual, **notes})
    rows = [Row.of(name, "ms", {"m2f-jax": x, "other": 1.0}) for name, x in ratios.items()]
    comparison.publish("a model", rows)


def test_reports_are_written(tmp_path):
    files = ("--json", tmp_path / "a.json", "--markdown", tmp_path / "a.md")
    publish({"forward": 0.5, "backward": 1234.5}, *files, agreement={"by": 1e-7})
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


def test_a_worse_ratio_is_an_error(tmp_path, capsys):
    path = tmp_path / "record.json"
    publish({"a": 0.5, "b": 0.5, "gone": 1.0}, "--json", path)
    capsys.readouterr()
    now = {"a": 0.56, "b": 0.4, "new": 2.0}
    with pytest.raises(SystemExit) as exit_:
        publish(now, "--against", path, "--markdown", tmp_path / "now.md")
    assert exit_.value.code == "worse than recorded by more than 10 %: a, ms, other"
    lines = [
        "| a, ms, other | 0.50 | 0.56 | +12 % | worse |",
        "| b, ms, other | 0.50 | 0.40 | -20 % |  |",
        "| gone, ms, other | 1.00 |  |  | gone |",
        "| new, ms, other |  | 2.00 |  | new |",
    ]
    assert "\n".join(lines) in (tmp_path / "now.md").read_text()
    publish(now, "--against", path, "--margin", 15)
    assert "since the record: machine as recorded, versions as recorded" in capsys.readouterr().out


def test_versions_since_the_record_are_told(tmp_path, capsys):
    path = tmp_path / "record.json"
    publish({"a": 0.5}, "--json", path)
    publish({"a": 0.5}, "--against", path, versions={"jax": "0.11", "torch": "2.13"})
    assert "versions jax 0.10, now 0.11; torch nothing, now 2.13" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"settings": {"batch": 1, "sides": [32, 64]}}, "of other settings: batch 1, now 2$"),
        ({"benchmark": "training"}, "of training.py, not of inference.py$"),
        ({"settings": None}, "no report of --json"),
    ],
)
def test_other_records_are_refused(tmp_path, changed, message):
    path = tmp_path / "record.json"
    publish({"a": 0.5}, "--json", path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(SystemExit, match=message):
        publish({"a": 0.5}, "--against", path)


ON_CPU = {"device": "cpu", "threads": 2}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "inference-cpu-512x1024",
            inference.Options(size=(512, 1024), peers=("transformers", "zeromodels"), **ON_CPU),
        ),
        ("deformable_attention-cpu", deformable_attention.Options(**ON_CPU)),
    ],
)
def test_kept_records_are_of_todays_settings(name, options):
    options = dataclasses.replace(options, against=ROOT / "docs" / "benchmarks" / f"{name}.json")
    comparison = Comparison(name.partition("-")[0], options, compared(options), {})
    assert ratios_of(comparison.record["rows"])
    other = dataclasses.replace(options, dtype="bfloat16")
    with pytest.raises(SystemExit, match="dtype float32, now bfloat16"):
        Comparison(name.partition("-")[0], other, compared(other), {})
