"""Bipartite matching beside optax and SciPy."""

import json

import matching


def test_matching(monkeypatch, tmp_path):
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
