"""`m2f eval --boundary` from end to end, on generated streets: Boundary PQ beside PQ."""

import csv
import json

import numpy as np
import pytest
from m2f_jax.eval import BoundaryPanopticQuality, PanopticQuality
from m2f_jax.eval.metrics.cityscapes.ids import panoptic_ground_truth
from m2f_jax.eval.metrics.panoptic.panoptic_quality import coco_categories
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.images import read_ids
from m2f_jax.labels import CITYSCAPES
from m2f_jax.streets import street_scene, write_streets

SIZE = (128, 256)
COUNT = 3
WIDTHS = {
    rules: {"score": "Boundary PQ", "dilation_ratio": ratio}
    for rules, ratio in (("cityscapes", 0.005), ("coco", 0.02))
}


@pytest.fixture(scope="module")
def truths():
    """The panoptic ground truth of each image."""
    scenes = [street_scene(0, index, SIZE) for index in range(COUNT)]
    return [panoptic_ground_truth(scene.instance_ids) for scene in scenes]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boundary") / "streets"
    write_streets(folder, images=COUNT, size=SIZE, seed=0)
    return folder


@pytest.fixture(scope="module")
def names(root):
    paths = sorted(root.rglob("*_leftImg8bit.png"))
    return [path.name.removesuffix("_leftImg8bit.png") for path in paths]


@pytest.fixture(scope="module")
def whole(root, panoptic_model, tmp_path_factory):
    """The folder of a model's evaluation, with what it exported in `export`."""
    out = tmp_path_factory.mktemp("whole")
    assert score(root, *of_model(panoptic_model, out)) == 0
    return out


def of_model(model, out):
    return ["--model", model, "--boundary", "--out", out, "--export", out / "export"]


def score(root, *arguments, task="panoptic"):
    return main(["eval", "cityscapes", str(root), "--task", task, *map(str, arguments)])


def results(folder):
    return json.loads((folder / "results.json").read_text())


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(folder, truths, names, moved):
    """The ground truth, moved to the right, as predictions or as annotations in COCO's format."""
    entries = []
    (folder / "panoptic").mkdir(parents=True)
    for (ids, segments), name in zip(truths, names, strict=True):
        ids = np.roll(ids, moved, axis=1)
        rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / "panoptic" / f"{name}.png")
        entries.append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
    content = {
        "images": [
            {"id": name, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
            for name in names
        ],
        "annotations": entries,
        "categories": coco_categories(CITYSCAPES),
    }
    (folder / "panoptic.json").write_text(json.dumps(content))
    return folder / "panoptic.json"


def counted(metric, truths, file):
    """The numbers of a metric, of predictions in a file."""
    entries = json.loads(file.read_text())["annotations"]
    for truth, entry in zip(truths, entries, strict=True):
        segment_map = read_ids(file.with_suffix("") / entry["file_name"], "rgb")
        metric.add(*truth, segment_map, entry["segments_info"], entry["image_id"])
    return json.loads(json.dumps(metric.result().to_json()))


def test_a_model_has_the_numbers_of_the_metric(root, whole, truths, tmp_path):
    [file] = (whole / "export").glob("*.json")
    want = counted(BoundaryPanopticQuality(CITYSCAPES, 0.005), truths, file)
    assert any(row["fp"] for row in want["per_class"].values())
    assert results(whole)["boundary"] == WIDTHS["cityscapes"] | want
    assert results(whole)["official"] == counted(PanopticQuality(CITYSCAPES), truths, file)
    again = tmp_path / "again"
    assert score(root, "--boundary", "--predictions", whole / "export", "--out", again) == 0
    for name in ("official", "boundary", "scores"):
        assert results(again)[name] == results(whole)[name]


def test_an_interrupted_run_goes_on_and_shares_no_tables_with_one_without(
    root, panoptic_model, whole, names, tmp_path, capsys
):
    before = results(whole)
    next(whole.glob(f"tables/*/{names[1]}.npz")).unlink()
    assert score(root, *of_model(panoptic_model, whole)) == 0
    assert f"{COUNT - 1} of {COUNT} images are done already" in capsys.readouterr().err
    assert {**results(whole), "provenance": 0} == {**before, "provenance": 0}
    out = tmp_path / "out"
    arguments = ["--model", panoptic_model, "--out", out, "--limit", 1]
    assert score(root, *arguments, "--boundary") == 0
    assert (out / "boundary_tally.npz").is_file()
    assert score(root, *arguments) == 0
    assert "done already" not in capsys.readouterr().err
    assert "boundary" not in results(out)
    assert not (out / "boundary_tally.npz").exists()


@pytest.mark.parametrize("rules", ["cityscapes", "coco"])
def test_files_have_the_numbers_of_the_metric_everywhere(
    root, truths, names, tmp_path, capsys, rules
):
    width = WIDTHS[rules]["dilation_ratio"]
    found, out = written(tmp_path / "found", truths, names, 1), tmp_path / "out"
    want = counted(BoundaryPanopticQuality(CITYSCAPES, width), truths, found)
    whole = counted(PanopticQuality(CITYSCAPES), truths, found)
    quality = want["All"]["pq"]
    assert 0.02 < quality < whole["All"]["pq"]
    data = str(root) if rules == "cityscapes" else str(written(tmp_path / "true", truths, names, 0))
    command = ["eval", rules, data, "--task", "panoptic", "--boundary"]
    command += ["--predictions", str(found)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].endswith("Boundary PQ")
    line = f"Boundary PQ {100 * quality:.1f} (boundaries of {100 * width:g} % of the image's diag"
    assert line in printed

    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out == printed
    assert results(out)["boundary"] == WIDTHS[rules] | want
    assert results(out)["official"] == whole
    assert results(out)["scores"]["Boundary PQ"] == pytest.approx(100 * quality)
    best = max(want["per_class"].values(), key=lambda one: one["pq"])
    row = next(row for row in rows(out / "classes.csv") if row["class"] == best["name"])
    assert float(row["Boundary PQ"]) == pytest.approx(100 * best["pq"])
    assert float(row["Boundary PQ low"]) < 100 * best["pq"] < float(row["Boundary PQ high"])
    assert all(float(x["Boundary PQ"]) < float(x["PQ"]) for x in rows(out / "images.csv"))
    page = (out / "report.html").read_text()
    assert "<span>Boundary PQ</span>" in page
    assert f"{100 * width:g} % of the image&#39;s diagonal" in page


def test_the_folder_of_a_data_set(root, panoptic_model, tmp_path):
    arguments = ["--task", "panoptic", "--boundary", "--limit", "1", "--out", str(tmp_path)]
    assert main(["eval", "folder", str(root), "--model", panoptic_model, *arguments]) == 0
    assert results(tmp_path)["boundary"]["dilation_ratio"] == 0.005


def test_two_evaluations_are_compared_by_both(root, truths, names, tmp_path, capsys):
    folders = []
    for moved in (2, 1):
        file = written(tmp_path / f"moved {moved}", truths, names, moved)
        folders.append(tmp_path / f"out {moved}")
        arguments = ["--predictions", file.parent, "--out", folders[-1]]
        assert score(root, *arguments, "--boundary") == 0
    out = tmp_path / "comparison"
    command = ["eval", "compare", *map(str, folders), "--out", str(out)]
    capsys.readouterr()
    assert main(command) == 0
    printed = capsys.readouterr().out
    found = json.loads((out / "compare.json").read_text())
    wanted = [results(folder)["scores"] for folder in folders]
    for values, name in ((found, "PQ"), (found["boundary"], "Boundary PQ")):
        assert values["score"] == name
        assert [values["first"], values["second"]] == pytest.approx([x[name] for x in wanted])
        text = f"{name} {values['first']:.1f} to {values['second']:.1f}"
        assert text in (out / "compare.html").read_text()
        assert text in printed
    road = next(row for row in rows(out / "classes.csv") if row["class"] == "road")
    assert float(road["Boundary PQ change"]) > float(road["change"]) > 0
    assert max(float(row["Boundary PQ change"]) for row in rows(out / "images.csv")) > 0

    arguments = ["--predictions", tmp_path / "moved 1", "--out", folders[1]]
    assert score(root, *arguments) == 0
    assert main(command) == 0
    assert f"only {folders[0]} has it; score {folders[1]} with --boundary, too" in " ".join(
        capsys.readouterr().err.split()
    )
    assert "boundary" not in json.loads((out / "compare.json").read_text())


def test_instances_by_cityscapes_rules(root, panoptic_model, tmp_path, capsys, monkeypatch):
    # On a GPU, instances without boundaries are counted there.
    monkeypatch.setattr("m2f_jax.eval.running.measuring.jax.default_backend", lambda: "gpu")
    out = tmp_path / "out"
    command = ["--model", panoptic_model, "--out", out]
    assert score(root, *command, "--boundary", task="instance") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("Boundary AP")
    before = results(out)
    assert before["boundary"]["dilation_ratio"] == 0.005
    assert before["boundary"]["AP"] * 100 == before["scores"]["Boundary AP"]
    next(out.glob("tables/*/*1_000019.npz")).unlink()
    assert score(root, *command, "--boundary", task="instance") == 0
    assert f"{COUNT - 1} of {COUNT} images are done already" in capsys.readouterr().err
    assert {**results(out), "provenance": 0} == {**before, "provenance": 0}
    assert score(root, *command, task="instance") == 0
    assert "done already" not in capsys.readouterr().err
    assert results(out)["official"] == before["official"]


def test_a_task_without_a_boundary_measure_is_refused(root, capsys):
    for more in ([], ["--predictions", "nothing"]):
        assert score(root, "--boundary", *more, task="semantic") == 1
        error = " ".join(capsys.readouterr().err.split())
        assert "--task semantic has no boundary measure; leave --boundary out" in error
        assert "--task panoptic (Boundary PQ)" in error
