import base64
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP, CocoMaskAP, PanopticQuality, SemanticIoU
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.analysis.errors import Error
from m2f_jax.eval.predictions.files import InstancePrediction, PanopticPrediction
from m2f_jax.eval.report.charts import thinned
from m2f_jax.eval.report.page import MISSING, percent, short_count
from m2f_jax.eval.report.pictures import worst_pictures
from m2f_jax.eval.report.pictures.classes import pixel_sides
from m2f_jax.eval.report.pictures.outlines import outline_path
from m2f_jax.eval.report.pictures.picture import Picture, Shape, Side
from m2f_jax.eval.report.sections.overview import worst_images
from m2f_jax.eval.report.writing import write_report
from m2f_jax.eval.results.published import Published
from m2f_jax.eval.tasks import InstanceEvaluation, PanopticEvaluation
from markupsafe import escape
from PIL import Image

from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.dataset import CityscapesTruth, PanopticTruth
from m2f_jax.labels import CITYSCAPES, Label
from m2f_jax.masks.rle import encode_rle
from m2f_jax.visualization.color import class_colors

PERSON, CAR = 24, 26
EVIL = "<script>alert(1)</script>&\"'"


class Page(HTMLParser):
    """The elements of a page, which must be balanced, and the texts of its tables' cells."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open, self.names, self.rows, self.attributes = [], [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        self.attributes += [(name, *pair) for pair in attributes]
        if name not in ("meta", "img"):
            self.open.append(name)
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1:] or self.rows.append([])
            self.rows[-1].append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += text


def squares(*instance_ids):
    """A map with a square of 20 x 20 pixels for each id."""
    canvas = np.full((64, 256), 7, np.int32)
    for i, instance_id in enumerate(instance_ids):
        canvas[10:30, 10 + 40 * i : 30 + 40 * i] = instance_id
    return canvas


def instance_metric(name="b"):
    """Image a is perfect; the other has a missed car, two false persons and a faint one."""
    metric = CityscapesInstanceAP()
    truth = squares(26001, 24001)
    metric.add(truth, np.stack([truth == 26001, truth == 24001]), [CAR, PERSON], [0.9, 0.8], "a")
    truth = squares(26001, 24001)
    masks = np.stack([truth == 24001, *(np.roll(truth == 24001, 80 + 40 * i, 1) for i in range(3))])
    metric.add(truth, masks, [PERSON] * 4, [0.95, 0.7, 0.6, 0.2], name)
    return metric


def write(path, metric, title="A title", pictures=(), published=None, settings=None):
    result = metric.result()
    write_report(
        path,
        result,
        analyze(metric, result),
        title=title,
        settings=settings or {},
        published=published or Published(),
        pictures=pictures,
    )
    return Page(path)


def picture(name):
    shape = Shape(style="missed", path="M0 0l9 0 0 9z", title=name, label=name, x=1, y=1)
    sides = [Side(words=words, details="", overlay="eA==", shapes=(shape,)) for words in "ab"]
    return Picture(
        name=name,
        caption=name,
        width=800,
        height=400,
        photograph="eA==",
        ground_truth=sides[0],
        prediction=sides[1],
    )


def test_needs_nothing_else(tmp_path):
    page = write(tmp_path / "r.html", instance_metric(), pictures=[picture("b")])
    assert not {"script", "link", "iframe", "object", "img"} & set(page.names)
    assert not re.search(r"https?:|@import|url\(", page.source)
    sources = [value for _, key, value in page.attributes if key in ("src", "href")]
    assert sources == [  # the photograph is there once
        "data:image/jpeg;base64,eA==",
        "data:image/png;base64,eA==",
        "#photo-0",
        "data:image/png;base64,eA==",
    ]


def test_class_table_has_the_numbers_of_the_result(tmp_path):
    metric = instance_metric()
    result, found = metric.result(), analyze(metric, metric.result()).intervals
    rows = write(tmp_path / "r.html", metric).rows
    person, car = (next(row for row in rows if row[0] == name) for name in ("person", "car"))
    # Both persons are found before the false ones; AP is 1 at all overlaps, as masks are exact.
    assert person[:2] + person[3:] == ["person", *["100.0"] * 3, "2", "5", "2", "2", "0"]
    ap = percent(result.ap_matrix[2].mean())
    within = f"{percent(found.class_low[2])} to {percent(found.class_high[2])}"
    assert car == ["car", ap, within, ap, ap, "2", "1", "1", "0", "1"]
    total = next(row for row in rows if row[0] == "all")
    within = f"{percent(found.low)} to {percent(found.high)}"
    aps = [percent(result.ap50), percent(result.ap_matrix[[0, 2], 5].mean())]
    assert total == ["all", percent(result.ap), within, *aps, "4", "6", "3", "2", "1"]
    matrix = {row[0]: row[1:] for row in rows if len(row) == 11}
    assert matrix["car"] == [percent(ap) for ap in result.ap_matrix[2]]


def test_classes_without_objects_have_dashes(tmp_path):
    rows = write(tmp_path / "r.html", instance_metric()).rows
    bus = next(row for row in rows if row[0] == "bus")
    assert bus == ["bus", *[MISSING] * 4, "0", "0", "0", "0", "0"]
    assert not any("nan" in cell for row in rows for cell in row)


def test_headline_stands_beside_published_numbers(tmp_path):
    metric = instance_metric()
    published = Published(model="a model", scores={"AP": 40.0})
    source = write(tmp_path / "r.html", metric, published=published).source
    assert f"published 40.0 ({100 * metric.result().ap - 40:+.1f})" in source
    assert "numbers of a model" in source
    source = write(tmp_path / "r.html", metric, published=Published(problem="it's another")).source
    assert "Not compared: it&#39;s another." in source
    assert "no published number" in write(tmp_path / "r.html", metric).source


def test_texts_are_escaped(tmp_path):
    settings = {EVIL: EVIL}
    page = write(
        tmp_path / "r.html", instance_metric(EVIL), EVIL, [picture(EVIL)], settings=settings
    )
    assert "script" not in page.names
    assert escape(EVIL) in page.source
    assert [EVIL, EVIL] in page.rows
    assert ("svg", "aria-label", f"{EVIL}, a") in page.attributes


def test_class_names_are_escaped(tmp_path):
    metric = PanopticQuality([Label(id=1, name=EVIL, is_thing=True)])
    metric.add(*2 * (np.ones((2, 2), int), [{"id": 1, "category_id": 1}]))
    page = write(tmp_path / "r.html", metric)
    assert "script" not in page.names
    assert any(row[0] == EVIL for row in page.rows)


@pytest.mark.parametrize(
    "metric", [CityscapesInstanceAP(), PanopticQuality(CITYSCAPES), SemanticIoU()]
)
def test_empty_results_can_be_written(tmp_path, metric):
    page = write(tmp_path / "r.html", metric)
    assert ">nan<" not in page.source.lower()


def test_an_image_without_objects_and_predictions_can_be_written(tmp_path):
    metric = CityscapesInstanceAP()
    metric.add(squares(), np.zeros((0, 64, 256), bool), [], [])
    page = write(tmp_path / "r.html", metric)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page.source, flags=re.S)


def test_semantic_confusion_is_in_percent_of_the_truth(tmp_path):
    metric = SemanticIoU(2)
    metric.add(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 1, 1]]))
    rows = write(tmp_path / "r.html", metric).rows
    assert ["class 0", "67", "33", "·"] in rows
    assert ["class 1", "·", "100", "·"] in rows


def test_instance_confusion_has_the_truth_in_rows(tmp_path):
    rows = write(tmp_path / "r.html", instance_metric()).rows
    at = next(i for i, row in enumerate(rows) if row[0].startswith("truth"))
    matrix = {row[0]: dict(zip(rows[at][1:], row[1:], strict=True)) for row in rows[at + 1 :]}
    assert matrix["car"]["background"] == "1"  # missed
    assert matrix["background"]["person"] == "2"  # false
    assert matrix["person"]["person"] == "2"
    assert matrix["background"]["background"] == ""


@pytest.mark.parametrize("metric", [instance_metric(), SemanticIoU(2)])
def test_tables_can_be_heard(tmp_path, metric):
    """Every place that scrolls has a name and every header its scope; matrices are alike."""
    page = write(tmp_path / "r.html", metric)
    scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == page.names.count("th")
    regions = page.attributes.count(("div", "class", "scroll"))
    names = [value for tag, name, value in page.attributes if (tag, name) == ("div", "aria-label")]
    assert regions == len(names) > 0
    assert all(names)
    assert names.count("Confusion matrix") == 1
    assert "Rows are the ground truth, columns the predictions." in page.source


def test_panoptic_classes_have_their_counts(tmp_path):
    metric = PanopticQuality(CITYSCAPES)
    truth = np.repeat([[1, 2]], 4, axis=0)  # a road and a car
    found = truth * (truth == 1)
    road = {"id": 1, "category_id": 7}
    metric.add(truth, [road, {"id": 2, "category_id": CAR}], found, [road])
    rows = write(tmp_path / "r.html", metric).rows
    assert ["road", "100.0", "100.0 to 100.0", "100.0", "100.0", "1", "0", "0"] in rows
    assert ["things", "0.0", "", "0.0", "0.0", "0", "0", "1"] in rows
    assert ["stuff", "100.0", "", "100.0", "100.0", "1", "0", "0"] in rows
    assert ["all", "50.0", "50.0 to 50.0", "50.0", "50.0", "1", "0", "1"] in rows


def coco_content(masks, crowds=(0, 0)):
    """Cars in one image."""
    objects = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "segmentation": encode_rle(mask),
            "area": int(mask.sum()),
            "iscrowd": crowd,
        }
        for i, (mask, crowd) in enumerate(zip(masks, crowds, strict=True), 1)
    ]
    return {
        "images": [{"id": 1, "file_name": "1.png", "height": 64, "width": 256}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
        "annotations": objects,
    }


def coco_metric():
    """A car that is found, one that is missed, and a bus, of which there is none, far off."""
    square = squares(26001) == 26001
    metric = CocoMaskAP(coco_content([square, np.roll(square, 60, 1)]))
    metric.add(1, np.stack([square, np.roll(square, 150, 1)]), [1, 2], [0.9, 0.8])
    return metric


@dataclasses.dataclass(frozen=True)
class OneImage:
    """A data set of an image."""

    image: Path
    categories: tuple
    truth: object
    rules: str = "coco"
    name, id, title, task = "1", 1, "one image", "instance"

    @property
    def images(self):
        return [self]

    labels = property(lambda self: self.categories)

    def ground_truth(self, _index, _task):
        return self.truth

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise AssertionError

    check = files = __getitem__


def test_coco_has_its_twelve_numbers_and_classes(tmp_path):
    metric = coco_metric()
    result = metric.result()
    rows = write(tmp_path / "r.html", metric).rows
    at = next(i for i, row in enumerate(rows) if row[0] == "number")
    numbers = {row[0]: row[-1] for row in rows[at : at + 13]}
    expected = {
        name: MISSING if number is None else f"{100 * number:.1f}"
        for name, number in result.to_json().items()
        if name not in ("per_category", "tool")
    }
    assert numbers == {"number": "%", **expected}
    assert len(expected) == 12
    assert expected["APm"] == MISSING
    # Half of the objects: 51 of the 101 recalls.
    car = ["car", "50.5", "50.5 to 50.5", "50.5", "50.5", "2", "1", "1", "0", "1"]
    assert car in rows
    assert ["bus", *[MISSING] * 4, "0", "1", "0", "1", "0"] in rows
    assert ["car", *["50.5"] * 10] in rows
    assert ["car", "1", "·", "1"] in rows  # of the confusion matrix
    assert ["background", "·", "1", ""] in rows


def drawn_file(path, size=(64, 256)):
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)
    return path


def verdicts_of(side):
    return {shape.title: shape.style for shape in side.shapes}


def cityscapes_scene(folder, encoded):
    """A street with each fault: its data set and its prediction."""
    truth = squares(26001, 24001, 26002, 24002, 26003)
    truth[40:60, 10:30] = 24  # a group of persons
    truth[62:, 200:204] = 26009  # too small to count
    half = np.roll(truth == 26002, 9, axis=1)  # an overlap of 11 / 29
    masks = {
        "car 0.95": truth == 26001,
        "car 0.94": truth == 26001,
        "truck 0.90": truth == 24001,
        "car 0.80": half,
        "bus 0.70": np.roll(truth == 24002, 9, axis=1),
        "person 0.65": truth == 24,
        "person 0.10": truth == 24002,
        "bicycle 0.60": np.roll(truth == 26001, 30, axis=0),
        "car 0.40": truth == 26003,
    }
    ids = {"car": 26, "truck": 27, "bus": 28, "person": 24, "bicycle": 33}
    labels = np.array([ids[name.split()[0]] for name in masks])
    scores = np.array([float(name.split()[1]) for name in masks])
    found = list(masks.values())
    image, ground_truth = drawn_file(folder / "image.png"), CityscapesTruth(truth, None)
    return OneImage(image, CITYSCAPES, ground_truth, "cityscapes"), InstancePrediction(
        list(map(encode_rle, found)) if encoded else np.stack(found), labels, scores
    )


@pytest.mark.parametrize("encoded", [False, True])
def test_each_verdict_of_cityscapes_by_hand(tmp_path, encoded):
    dataset, prediction = cityscapes_scene(tmp_path, encoded)
    evaluation = InstanceEvaluation(dataset, CITYSCAPES)
    metric = evaluation.count(0, evaluation.truth(0), prediction)
    tally = analyze(metric, metric.result()).tally
    [picture] = worst_pictures(evaluation, tally, {0: prediction}.__getitem__)
    assert verdicts_of(picture.prediction) == {
        "car 0.95: right": "right",
        "car 0.94: duplicate": "duplicate",
        "truck 0.90: wrong class": "classification",
        "car 0.80: poor mask": "localisation",
        "bus 0.70: wrong class and mask": "both",
        "person 0.65: not judged": "ignored",
        "bicycle 0.60: background": "background",
    }
    styles = sorted(shape.style for shape in picture.ground_truth.shapes)
    assert styles == ["found", *["missed"] * 4]
    assert picture.ground_truth.words == "ground truth: 1 found, 4 missed"
    assert picture.caption == "4 missed, 5 false, 1 right (image.png)"
    labels = {shape.label for shape in picture.prediction.shapes}
    assert {"car 0.95", "C truck 0.90"} <= labels


def test_verdicts_of_coco_are_those_of_its_metric(tmp_path):
    """An overlap of one half is a match, and what lies on a crowd isn't judged."""
    square = squares(26001) == 26001
    half = square & (np.arange(256) < 20)
    drawn_file(tmp_path / "1.png")
    content = coco_content([square, np.roll(square, 100, 1)], crowds=[0, 1])
    (tmp_path / "truth.json").write_text(json.dumps(content))
    dataset = coco_dataset(tmp_path / "truth.json", tmp_path, "instance")
    evaluation = InstanceEvaluation(dataset, dataset.categories)
    found = np.stack([half, np.roll(half, 100, 1), np.roll(square, 180, 1)])
    prediction = InstancePrediction(found, np.array([1, 1, 1]), np.array([0.9, 0.8, 0.7]))
    metric = evaluation.count(0, None, prediction)
    tally = analyze(metric, metric.result()).tally
    assert {name: int(count[0]) for name, count in tally.image_counts().items()} == {
        "right": 1,
        "false": 1,
        "missed": 0,
    }
    [picture] = worst_pictures(evaluation, tally, {0: prediction}.__getitem__)
    assert verdicts_of(picture.prediction) == {
        "car 0.90: right": "right",
        "car 0.80: not judged": "ignored",
        "car 0.70: background": "background",
    }


def test_verdicts_of_panoptic_segments_are_those_of_its_metric(tmp_path):
    """Void is taken from unions, and a segment that lies on it mostly isn't judged."""
    truth = np.zeros((20, 40), np.int32)
    truth[:10], truth[10:, :10], truth[10:, 10:20] = 1, 2, 3
    found = np.zeros_like(truth)
    found[:10], found[10:, :10], found[10:, 14:24], found[10:, 24:34] = 1, 2, 3, 4
    drawn_file(tmp_path / "1.png", truth.shape)
    names = ["road", "car", "bus"]
    infos = [{"id": i, "category_id": i} for i in (1, 2, 3)]
    categories = tuple(Label(id=i, name=x, is_thing=i > 1) for i, x in enumerate(names, 1))
    dataset = OneImage(tmp_path / "1.png", categories, PanopticTruth(truth, infos))
    segments = [{"id": i, "category_id": k} for i, k in ((1, 1), (2, 3), (3, 3), (4, 3))]
    prediction = PanopticPrediction(found, segments)
    evaluation = PanopticEvaluation(dataset, categories)
    metric = evaluation.count(0, evaluation.truth(0), prediction)
    analysis = analyze(metric, metric.result())
    [picture] = worst_pictures(evaluation, analysis.tally, {0: prediction}.__getitem__)
    styles = [(shape.title, shape.style) for shape in picture.prediction.shapes]
    assert sorted(styles) == [
        ("bus: not judged", "ignored"),
        ("bus: right", "right"),  # 6 of 10 columns, and the others on void
        ("bus: wrong class", "classification"),
        ("road: right", "right"),
    ]
    assert picture.caption == "1 missed, 1 false, 2 right"
    assert picture.prediction.words == "prediction: 2 right, 1 wrong class, 1 not judged"
    rows = write(tmp_path / "r.html", metric).rows
    at = next(i for i, row in enumerate(rows) if row[0].startswith("truth"))
    assert rows[at][1:] == [*names, "background"]
    assert rows[at + 1 :] == [
        ["road", "1", "·", "·", "·"],
        ["car", "·", "·", "1", "·"],
        ["bus", "·", "·", "1", "·"],
        ["background", "·", "·", "·", ""],
    ]


def test_wrong_pixels_are_striped_and_void_is_clear():
    truth = np.zeros((40, 80), int)
    truth[:, 60:] = -1
    found = np.zeros_like(truth)
    found[:, 30:] = 1
    sides = pixel_sides(truth, found, ["road", "car"])
    left, right = (
        np.array(Image.open(io.BytesIO(base64.b64decode(side.overlay))).convert("RGBA")).astype(int)
        for side in sides
    )
    road, car = class_colors(("road", "car")).astype(int)
    assert np.abs(left[20, 5, :3] - road).max() < 12
    assert left[20, 70, 3] == right[20, 70, 3] == 0
    colors = right[20, 32:58]
    black = np.abs(colors[:, :3]).max(axis=1) < 12
    assert 0.15 < black.mean() < 0.35
    assert np.abs(colors[~black][:, :3] - car).max() < 12
    assert sides[1].words == "prediction: 50.0 % of the pixels are wrong"
    assert [shape.label for shape in sides[0].shapes] == ["road"]
    assert {shape.label for shape in sides[1].shapes} == {"road", "car"}


def test_outlines_go_around_masks_and_holes():
    mask = np.zeros((30, 40), bool)
    mask[5:25, 10:30] = True
    assert outline_path(mask) == "M10 5l20 0 0 20 -20 0z"
    mask[10:15, 15:20] = False
    assert outline_path(mask).count("M") == 2
    rows, columns = np.mgrid[:200, :200]
    disk = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    path = outline_path(disk)
    corners = np.cumsum(np.array(re.findall(r"-?\d+", path), int).reshape(-1, 2), axis=0)
    assert 20 < len(corners) < 120
    assert np.abs(np.hypot(*(corners - 100).T) - 80).max() < 2
    assert outline_path(np.zeros((4, 4), bool)) == ""


def test_photographs_that_are_not_there_leave_a_word(tmp_path):
    dataset, prediction = cityscapes_scene(tmp_path, encoded=True)
    dataset.images[0].image.unlink()
    evaluation = InstanceEvaluation(dataset, CITYSCAPES)
    metric = evaluation.count(0, evaluation.truth(0), prediction)
    tally = analyze(metric, metric.result()).tally
    assert worst_pictures(evaluation, tally, {0: prediction}.__getitem__) == []
    assert "written without pictures" in write(tmp_path / "r.html", metric).source


def test_the_worst_images_have_the_most_faults(tmp_path):
    metric = CityscapesInstanceAP()
    nothing = np.zeros((0, 64, 256), bool)
    for missed in (1, 2, 3):
        truth = squares(*range(26001, 26001 + missed))
        metric.add(truth, nothing, [], [], f"missed {missed}")
    for false in (1, 2):
        masks = np.stack([squares(26001) == 26001] * false)
        metric.add(squares(), masks, [CAR] * false, [0.9] * false, f"false {false}")
    metric.add(squares(), nothing, [], [], "faultless")
    names = ["missed 3", "missed 2", "false 2", "missed 1", "false 1"]
    tally = analyze(metric, metric.result()).tally
    assert [tally.images[i] for i in worst_images(tally)] == names
    page = write(tmp_path / "r.html", metric)
    assert [row[0] for row in page.rows if row[0].startswith(("missed", "false"))] == names
    assert "1 of 6 have none at all" in page.source


def test_errors_and_thresholds_are_told(tmp_path):
    metric = instance_metric()
    rows = write(tmp_path / "r.html", metric).rows
    kinds = {row[0]: row[1:3] for row in rows if len(row) == 4}
    gains = analyze(metric, metric.result()).instances.errors.gains
    assert kinds["B background"] == ["3", f"{100 * gains[Error.BACKGROUND]:.1f}"]
    assert kinds["M missed"] == ["1", f"{100 * gains[Error.MISSED]:.1f}"]
    assert ["person", "·", "·", "·", "·", "3", "·"] in rows
    assert ["person", "0.80", "100.0", "100.0", "100.0"] in rows
    assert ["bus", MISSING, MISSING, MISSING, MISSING] in rows


def test_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")
    replaced = []
    replace = type(path).replace

    def spy(source, target):
        assert source.read_text(encoding="utf-8").rstrip().endswith("</html>")
        assert path.read_text() == "old"
        replaced.append(target)
        return replace(source, target)

    monkeypatch.setattr(type(path), "replace", spy)
    write(path, instance_metric())
    assert replaced == [path]
    with pytest.raises(TypeError, match="no report can be made of a dict"):
        write_report(
            path,
            {},
            analyze(instance_metric(), instance_metric().result()),
            title="",
            settings={},
            published=Published(),
            pictures=(),
        )
    assert list(tmp_path.iterdir()) == [path]


def test_thinned_lines_stay_close():
    x = np.linspace(0, 100, 20000)
    y = 50 + 40 * np.sin(x)
    kept = thinned(x, y)
    assert kept[0] == 0
    assert kept[-1] == len(x) - 1
    assert len(kept) < len(x) / 2
    nearest = np.searchsorted(kept, np.arange(len(x)), side="right") - 1
    assert np.abs(y - y[kept[nearest]]).max() <= 0.6


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1200, "1.2k"), (34000, "34k"), (1.1e6, "1.1M")]
)
def test_short_counts(count, text):
    assert short_count(int(count)) == text
    assert percent(math.nan) == MISSING
