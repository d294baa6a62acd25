"""Reports say what results and analyses say, escaped, and need nothing else."""

import math
import re

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP, CocoMaskAP, PanopticQuality, SemanticIoU
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.analysis.errors import Error
from m2f_jax.eval.report.charts import thinned
from m2f_jax.eval.report.page import MISSING, percent, short_count
from m2f_jax.eval.report.pictures.picture import Picture, Shape, Side
from m2f_jax.eval.report.sections.overview import worst_images
from m2f_jax.eval.report.writing import write_report
from m2f_jax.eval.results.published import Published
from markupsafe import escape

from m2f_jax.labels import CITYSCAPES, Label
from tests.eval.report.pages import write
from tests.eval.report.scenes import CAR, PERSON, coco_content, squares

EVIL = "<script>alert(1)</script>&\"'"


def instance_metric(name="b"):
    """Image a is perfect; the other has a missed car, two false persons and a faint one."""
    metric = CityscapesInstanceAP()
    truth = squares(26001, 24001)
    metric.add(truth, np.stack([truth == 26001, truth == 24001]), [CAR, PERSON], [0.9, 0.8], "a")
    truth = squares(26001, 24001)
    masks = np.stack([truth == 24001, *(np.roll(truth == 24001, 80 + 40 * i, 1) for i in range(3))])
    metric.add(truth, masks, [PERSON] * 4, [0.95, 0.7, 0.6, 0.2], name)
    return metric


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


def coco_metric():
    """A car that is found, one that is missed, and a bus, of which there is none, far off."""
    square = squares(26001) == 26001
    metric = CocoMaskAP(coco_content([square, np.roll(square, 60, 1)]))
    metric.add(1, np.stack([square, np.roll(square, 150, 1)]), [1, 2], [0.9, 0.8])
    return metric


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
