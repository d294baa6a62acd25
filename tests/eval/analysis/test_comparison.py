"""Finished evaluations: what their folders hold, and two of them beside each other."""

import csv
import json
import re

import numpy as np
import pytest
from m2f_jax.eval.analysis.comparison import compare
from m2f_jax.eval.analysis.finished import read_finished
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.masks.rle import encode_rle

SIZE = (64, 96)
IMAGES = 6


def square(left):
    mask = np.zeros(SIZE, bool)
    mask[10:40, left : left + 30] = True
    return encode_rle(mask)


def content(images=IMAGES, moved=()):
    """A cat in each image and a dog in every other one; some cats are dogs."""
    pictures = [
        {"id": f"street {i}", "file_name": f"{i}.png", "height": 64, "width": 96}
        for i in range(images)
    ]
    annotations = []
    for i in range(images):
        for category, left in [(2 if i in moved else 1, 5)] + [(2, 60)] * (i % 2):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": f"street {i}",
                    "category_id": category,
                    "segmentation": square(left),
                }
            )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": pictures, "annotations": annotations, "categories": categories}


def scored(folder, name, shift, images=IMAGES, moved=()):
    """An evaluation of predictions whose dogs are this much off, and without cats in image 0."""
    truth, results = content(images, moved), []
    for one in truth["annotations"]:
        category, left = one["category_id"], 5 if one["segmentation"] == square(5) else 60
        if (category, one["image_id"]) == (1, "street 0"):
            continue
        found = {key: one[key] for key in ("image_id", "category_id")}
        left += shift if category == 2 else 0
        results.append(found | {"score": 0.9, "segmentation": square(left)})
    (folder / f"{name}.json").write_text(json.dumps(truth))
    (folder / f"{name} found.json").write_text(json.dumps(results))
    photographs = folder / "photographs"
    photographs.mkdir(exist_ok=True)
    for one in truth["images"]:
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(photographs / one["file_name"])
    arguments = [str(photographs), "--predictions", str(folder / f"{name} found.json")]
    out = folder / name
    assert main(["eval", "coco", str(folder / f"{name}.json"), *arguments, "--out", str(out)]) == 0
    return out


@pytest.fixture
def two(tmp_path):
    return scored(tmp_path, "first", -12), scored(tmp_path, "second", -2)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_tells_all_by_class_and_image(two):
    analysis = json.loads((two[0] / "analysis.json").read_text())
    results = json.loads((two[0] / "results.json").read_text())
    assert analysis["value"] == pytest.approx(results["scores"]["AP"])
    assert analysis["low"] <= analysis["value"] <= analysis["high"]
    kinds = {name: kind["count"] for name, kind in analysis["errors"]["kinds"].items()}
    assert kinds == dict.fromkeys(kinds, 0) | {"localisation": 3, "missed": 1}
    assert analysis["errors"]["kinds"]["localisation"]["gain"] == pytest.approx(50)
    classes, images = rows(two[0] / "classes.csv"), rows(two[0] / "images.csv")
    assert [row["class"] for row in classes] == ["cat", "dog"]
    official = results["official"]["per_category"]
    for row, written in zip(classes, analysis["classes"], strict=True):
        assert float(row["AP"]) == written["AP"]
        assert written["AP"] == pytest.approx(100 * official[row["class"]]["AP"])
        assert written["AP50"] == pytest.approx(100 * official[row["class"]]["AP50"])
    assert [classes[0][name] for name in ("objects", "best threshold")] == ["6", "0.9"]
    assert [row["image"] for row in images] == [f"street {i}" for i in range(IMAGES)]
    assert [images[0][name] for name in ("right", "false", "missed")] == ["0", "0", "1"]
    assert analysis["images"][1] == {
        "image": "street 1",
        "F1": 50.0,
        "right": 1,
        "false": 1,
        "missed": 1,
    }
    made = results["provenance"]
    assert made["version"]
    assert made["date"].startswith("20")
    assert {"data digest", "predictions digest"} <= set(results["settings"])
    assert made["command"] in (two[0] / "report.html").read_text().replace("&#39;", "'")


def test_two_evaluations_beside_each_other(two, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["eval", "compare", *map(str, two), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    found = json.loads((out / "compare.json").read_text())
    scores = [json.loads((x / "results.json").read_text())["scores"]["AP"] for x in two]
    assert [found["first"], found["second"]] == pytest.approx(scores)
    assert found["change"] == pytest.approx(scores[1] - scores[0])
    assert 0 < found["low"] <= found["change"] <= found["high"]
    assert found["verdict"] == "better"
    cat, dog = found["classes"]
    assert (cat["change"], cat["low"], cat["high"]) == (0, 0, 0)
    assert dog["change"] == pytest.approx(2 * found["change"])
    assert f"AP {scores[0]:.1f} to {scores[1]:.1f}, +{found['change']:.1f}" in text
    better = [row["image"] for row in found["images"] if row["change"] > 0]
    assert better == ["street 1", "street 3", "street 5"]
    assert all(name in text for name in better)
    assert "street 0" not in text
    assert [row["image"] for row in rows(out / "images.csv")] == [
        f"street {i}" for i in range(IMAGES)
    ]
    page = (out / "compare.html").read_text()
    assert all(words in page for words in ("better", "street 5", f"+{found['change']:.1f}"))
    # Both reports have street 0, without a cat; the dogs of street 1 are right in the second only.
    assert re.findall("<b>(street .)</b>: (.*)</fig", page) == [
        ("street 0", "F1 0.0 to 0.0 (+0.0)")
    ]
    assert page.count("data:image/jpeg") == 1
    assert page.count('<use href="#photo-0"/>') == 3
    words = re.findall('<p class="words">(.*)</p>', page)
    assert words[0] == "first, ground truth: 1 missed"
    assert words[3] == "second, prediction: nothing"
    names = [x["name"] for x in json.loads((two[0] / "pictures.json").read_text())]
    assert names == ["street 1", "street 3", "street 5", "street 0"]

    (two[1] / "pictures.json").write_text('[{"name": 1}]')
    assert main(["eval", "compare", *map(str, two), "--out", str(out)]) == 1
    assert "pictures.json" in capsys.readouterr().err
    (two[1] / "pictures.json").unlink()
    assert main(["eval", "compare", *map(str, two), "--out", str(out)]) == 0
    assert "Pictures" not in (out / "compare.html").read_text()

    assert main(["eval", "compare", *map(str, reversed(two)), "--out", str(out)]) == 0
    back = json.loads((out / "compare.json").read_text())
    assert back["change"] == pytest.approx(-found["change"])
    assert back["high"] == pytest.approx(-found["low"])
    assert back["verdict"] == "worse"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": 4},
            "one is of 6 images, the other of 4: only the first has street 4, street 5",
        ),
        ({"moved": [2]}, "truth differs, first in street 2, where cat has 1 in one and 0 in the"),
    ],
)
def test_evaluations_of_other_data_are_not_compared(tmp_path, capsys, change, message):
    folders = [scored(tmp_path, "one", 0), scored(tmp_path, "two", 0, **change)]
    with pytest.raises(ValueError, match=message):
        compare(*map(read_finished, folders))
    capsys.readouterr()
    assert main(["eval", "compare", *map(str, folders), "--out", str(tmp_path / "out")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_evaluations_of_other_tasks_are_not_compared(two):
    results = json.loads((two[1] / "results.json").read_text())
    (two[1] / "results.json").write_text(json.dumps(results | {"task": "semantic"}))
    with pytest.raises(ValueError, match="of the task instance, the other of semantic"):
        compare(*map(read_finished, two))


def test_what_is_no_finished_evaluation_is_refused(two):
    (two[0] / "tally.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"first has no tally\.npz: it isn't the --out"):
        read_finished(two[0])
    (two[1] / "tally.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"tally\.npz isn't a whole file of Tally"):
        read_finished(two[1])
    (two[1] / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"isn't a results\.json of m2f eval"):
        read_finished(two[1])
