import json

import numpy as np
import pytest
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.analysis.boundary import boundary_measure
from m2f_jax.eval.metrics.coco.annotations import CocoAnnotations
from m2f_jax.eval.metrics.coco.lvis_ap import LvisAnnotations, LvisMaskAP
from m2f_jax.eval.running.measuring import measure_all
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.opening import open_dataset
from m2f_jax.inference.segmenter import Segmenter
from tests.eval.metrics.coco.record_lvis import FILE, draw_scene

SCENES = json.loads(FILE.read_text())


def columns_of(scene, image):
    mine = [one for one in scene["results"] if one["image_id"] == image["id"]]
    return [[one[key] for one in mine] for key in ("segmentation", "category_id", "score")]


def evaluated(scene, annotations, tool=None):
    metric = LvisMaskAP(annotations, tool)
    for image in scene["dataset"]["images"]:
        metric.add(image["id"], *columns_of(scene, image))
    return metric


def numbers(result):
    """With -1 for NaN."""
    content = result.to_json()
    names = list(result.numbers)
    assert list(content) == [*names, "per_category", "tool"]
    return {name: -1.0 if content[name] is None else content[name] for name in names}


@pytest.mark.parametrize("tool", ["hotcoco", "pycocotools", "faster-coco-eval"])
def test_the_numbers_are_those_of_the_official_package(tool):
    pytest.importorskip(tool.replace("-", "_"))
    tolerance = 1e-15 if tool == "faster-coco-eval" else 0
    for scene in SCENES:
        found = numbers(evaluated(scene, scene["dataset"], tool).result())
        assert list(found) == list(scene["lvis"])
        assert found == pytest.approx(scene["lvis"], rel=0, abs=tolerance)


def test_parts_are_merged_and_saved(tmp_path):
    scene = SCENES[5]
    annotations = LvisAnnotations.of(scene["dataset"])
    whole = LvisMaskAP(annotations)
    for k, image in enumerate(reversed(scene["dataset"]["images"])):
        part = LvisMaskAP(annotations)
        part.add(image["id"], *columns_of(scene, image))
        part.save(tmp_path / f"{k}.npz")
        whole.merge(LvisMaskAP.load(tmp_path / f"{k}.npz", scene["dataset"]))
    assert numbers(whole.result()) == scene["lvis"]
    image = scene["dataset"]["images"][0]
    ids = [category["id"] for category in scene["dataset"]["categories"]]
    other = image | {"neg_category_ids": ids}
    others = scene["dataset"] | {"images": [other, *scene["dataset"]["images"][1:]]}
    with pytest.raises(ValueError, match="different annotations"):
        whole.merge(LvisMaskAP(others))


def test_the_analysis_goes_by_the_same_rules():
    for scene in SCENES:
        metric = evaluated(scene, scene["dataset"])
        analysis = analyze(metric, metric.result())
        assert analysis.intervals.score == pytest.approx(scene["lvis"]["AP"], abs=1e-12)
        for name, part in analysis.instances.by_size.items():
            mean = -1 if np.isnan(part.ap) else part.ap
            assert mean == pytest.approx(scene["lvis"][f"AP{name[0]}"], abs=1e-12)
        boundary = boundary_measure(metric).scores["Boundary AP"]
        assert boundary == pytest.approx(scene["boundary"]["AP"], abs=1e-12)


def test_from_the_command_line(tmp_path, capsys):
    scene = next(one for one in SCENES if min(one["lvis"].values()) >= 0)  # all numbers are there
    for name in ("dataset", "results"):
        (tmp_path / f"{name}.json").write_text(json.dumps(scene[name]))
    paths = [str(tmp_path / name) for name in ("dataset.json", "results.json", "out")]
    assert main(["eval", "coco", paths[0], "--predictions", paths[1], "--out", paths[2]]) == 0
    shown = capsys.readouterr().out
    assert f"APr {100 * scene['lvis']['APr']:.1f}" in shown
    assert "by LVIS's rules, computed by hotcoco" in shown
    official = json.loads((tmp_path / "out" / "results.json").read_text())["official"]
    assert {name: official[name] for name in scene["lvis"]} == scene["lvis"]
    report = (tmp_path / "out" / "report.html").read_text()
    for words in ("LVIS's numbers", "ARs@300", "all of rare classes", "of all classes together"):
        assert words.replace("'", "&#39;") in report


def test_images_are_named_by_their_address(tmp_path):
    scene = draw_scene(5)
    scene["dataset"]["annotations"] = [
        one for one in scene["dataset"]["annotations"] if one["area"] > 0
    ]
    folder = tmp_path / "train"
    (folder / "images" / "val2017").mkdir(parents=True)
    for image in scene["dataset"]["images"]:
        name = image["coco_url"].rpartition("/")[2]
        size = image["width"], image["height"]
        Image.new("RGB", size).save(folder / "images" / "val2017" / name)
    (folder / "annotations.json").write_text(json.dumps(scene["dataset"]))
    dataset = open_dataset(tmp_path, "train", "instance")
    assert dataset.rules == "lvis"
    for k, image in enumerate(dataset.images):
        assert image.file_name == f"val2017/{image.id:012}.jpg"
        assert len(dataset[k].segments.labels) == len(image.segments)


def test_three_hundred_of_a_models_instances_count(tmp_path, monkeypatch):
    asked, segmenter = [], object.__new__(Segmenter)
    monkeypatch.setattr(
        "m2f_jax.eval.running.measuring.run_pipeline",
        lambda *_, **options: asked.append(options) or (),
    )
    plain = json.loads(json.dumps(SCENES[2]["dataset"]))
    for image in plain["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    for content in (SCENES[2]["dataset"], plain):
        (tmp_path / "file.json").write_text(json.dumps(content))
        dataset = coco_dataset(tmp_path / "file.json", tmp_path, "instance")
        list(measure_all(segmenter, evaluation_of(dataset, "instance"), [0], tmp_path))
    assert [options.get("top_k") for options in asked] == [300, None]


@pytest.mark.parametrize(
    ("entry", "change", "message"),
    [
        (
            "images",
            {"neg_category_ids": None},
            r"images\[0\] .*neg_category_ids is null, not a list",
        ),
        ("images", {"neg_category_ids": [True]}, "neg_category_ids has true, which isn't the id"),
        ("images", {"not_exhaustive_category_ids": [9999]}, "not_exhaustive_category_ids has 9999"),
        ("images", {"coco_url": "000000000001.jpg"}, "coco_url is .*end with a folder and a file"),
        ("images", {"coco_url": "http://a/../b.jpg"}, "leads out of its folder"),
        ("images", {"coco_url": 3}, "coco_url is 3"),
        ("categories", {"frequency": "rare"}, r"categories\[0\] .*frequency is the text 'rare'"),
        ("categories", {"frequency": []}, "frequency is an empty list"),
    ],
)
def test_faulty_fields_are_refused(entry, change, message):
    content = json.loads(json.dumps(SCENES[0]["dataset"]))
    content[entry][0] |= change
    with pytest.raises(ValueError, match=message):
        LvisAnnotations.of(content)


def test_what_is_not_of_lvis_is_refused():
    content = json.loads(json.dumps(SCENES[0]["dataset"]))
    with pytest.raises(ValueError, match="were read for COCO's rules"):
        LvisMaskAP(CocoAnnotations.of(content))
    del content["images"][1]["neg_category_ids"]
    with pytest.raises(ValueError, match=r"images\[1\] .* has no neg_category_ids"):
        LvisAnnotations.of(content)
    for image in content["images"]:
        image.pop("neg_category_ids", None)
        del image["not_exhaustive_category_ids"]
    with pytest.raises(ValueError, match="no image has neg_category_ids"):
        LvisAnnotations.of(content)
