"""The examples run, at toy size."""

import ast
import dataclasses
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from m2f_jax import Mask2Former
from m2f_jax.labels import numbered
from m2f_jax.streets import write_streets
from m2f_jax.training import initialize
from tests.conftest import MICRO, ROOT


def write_own_data(folder: Path):
    """Two images with a square each, as COCO annotations of one class."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in (1, 2):
        pixels = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(5, 30, 2))
        pixels[y : y + 20, x : x + 20] = 200
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 64, "width": 64})
        corners = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 7,
                "iscrowd": 0,
                "area": 400,
                "bbox": [x, y, 20, 20],
                "segmentation": [corners],
            }
        )
    categories = [{"id": 7, "name": "bright square"}]
    values = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(values))


def test_fine_tuning(toys, tmp_path, monkeypatch, capsys):
    """It trains, saves, evaluates and predicts."""
    for split in ("train", "val"):
        write_own_data(tmp_path / "data" / split)
    source, out = tmp_path / "source", tmp_path / "out"
    initialize(dataclasses.replace(MICRO, labels=numbered(3), **toys)).save_pretrained(source)
    arguments = [tmp_path / "data", out, source, "--steps", 2, "--size", 64, 64]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *map(str, arguments)])
    runpy.run_path(str(ROOT / "examples" / "finetune.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "2 images, 1 classes; fresh: decoder.class_head.bias" in said
    assert "step 2: loss" in said
    assert "AP50 " in said
    model = Mask2Former.from_pretrained(out)
    assert [label.name for label in model.config.labels] == ["bright square"]
    with Image.open(out / "example.png") as picture:
        assert picture.size == (64, 64)
    assert len((ROOT / "examples" / "finetune.py").read_text().splitlines()) < 60


def test_evaluation_from_python(tmp_path, monkeypatch, capsys):
    """The example of docs/evaluate.md."""
    page = (ROOT / "docs" / "evaluate.md").read_text()
    [code] = [part for part in re.findall("```python\n(.*?)```", page, re.DOTALL) if "out=" in part]
    write_streets(tmp_path / "data", 1, (128, 256), seed=3, split="val")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    scores, published, shape = capsys.readouterr().out.splitlines()
    assert set(ast.literal_eval(scores)) == {"AP", "AP50"}
    assert published == "{}"  # of an image in another size
    assert shape == "(8, 10)"
    assert (tmp_path / "report" / "results.json").is_file()
