import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP, CocoMaskAP, PanopticQuality, SemanticIoU
from m2f_jax.eval.predictions.files import InstancePrediction
from m2f_jax.eval.published import Published
from m2f_jax.eval.report.charts import thinned
from m2f_jax.eval.report.page import MISSING, percent, short_count
from m2f_jax.eval.report.pictures import overlay, true_instances
from m2f_jax.eval.report.writing import Picture, worst_images, worst_pictures_of_files, write_report
from markupsafe import escape
from PIL import Image

from m2f_jax.datasets.published.cityscapes import CityscapesImage
from m2f_jax.labels import CITYSCAPES, things
from m2f_jax.masks.rle import encode_rle
from m2f_jax.visualization import drawing

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


def write(path, result, title="A title", pictures=(), published=None, settings=None):
    write_report(
        path,
        result,
        title=title,
        settings=settings or {},
        published=published or Published(),
        pictures=pictures,
    )
    return Page(path)


def picture(name):
    half = np.full((100, 2048, 3), 128, np.uint8)
    return Picture(name=name, caption="1 missed, 2 false", ground_truth=half, prediction=half)


def test_needs_nothing_else(tmp_path):
    page = write(tmp_path / "r.html", instance_metric().result(), pictures=[picture("b")])
    assert not {"script", "link", "iframe", "object"} & set(page.names)
    assert not re.search(r"https?:|@import|url\(", page.source)
    sources = [value for _, key, value in page.attributes if key in ("src", "href")]
    assert len(sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    widths = [value for name, key, value in page.attributes if (name, key) == ("img", "width")]
    assert widths == ["1024"] * 2


def test_class_table_has_the_numbers_of_the_result(tmp_path):
    result = instance_metric().result()
    rows = write(tmp_path / "r.html", result).rows
    person, car = (next(row for row in rows if row[0] == name) for name in ("person", "car"))
    # Both persons are found before the false ones; AP is 1 at all overlaps, as masks are exact.
    assert person == ["person", "100.0", "100.0", "2", "5", "2", "2", "0"]
    assert car == ["car", percent(result.ap_matrix[2].mean()), car[2], "2", "1", "1", "0", "1"]
    assert car[2] == percent(result.ap_matrix[2, 0])
    total = next(row for row in rows if row[0] == "all")
    assert total == ["all", percent(result.ap), percent(result.ap50), "4", "6", "3", "2", "1"]
    matrix = {row[0]: row[1:] for row in rows if len(row) == 11}
    assert matrix["car"] == [percent(ap) for ap in result.ap_matrix[2]]


def test_classes_without_objects_have_dashes(tmp_path):
    rows = write(tmp_path / "r.html", instance_metric().result()).rows
    bus = next(row for row in rows if row[0] == "bus")
    assert bus == ["bus", MISSING, MISSING, "0", "0", "0", "0", "0"]
    assert not any("nan" in cell for row in rows for cell in row)


def test_headline_stands_beside_published_numbers(tmp_path):
    result = instance_metric().result()
    published = Published(model="a model", scores={"AP": 40.0})
    source = write(tmp_path / "r.html", result, published=published).source
    assert f"published 40.0 ({100 * result.ap - 40:+.1f})" in source
    assert "numbers of a model" in source
    source = write(tmp_path / "r.html", result, published=Published(problem="it's another")).source
    assert "Not compared: it&#39;s another." in source
    assert "no published number" in write(tmp_path / "r.html", result).source


def test_texts_are_escaped(tmp_path):
    result = instance_metric(EVIL).result()
    settings = {EVIL: EVIL}
    page = write(tmp_path / "r.html", result, EVIL, [picture(EVIL)], settings=settings)
    assert "script" not in page.names
    assert escape(EVIL) in page.source
    assert [EVIL, EVIL] in page.rows
    assert ("img", "alt", f"ground truth of {EVIL}") in page.attributes


def test_class_names_are_escaped(tmp_path):
    metric = SemanticIoU(2)
    metric.add(np.array([[0, 1]]), np.array([[0, 0]]))
    result = metric.result()
    result.per_class[EVIL] = result.per_class.pop("class 0")
    page = write(tmp_path / "r.html", result)
    assert "script" not in page.names
    assert any(row[0] == EVIL for row in page.rows)


@pytest.mark.parametrize(
    "metric", [CityscapesInstanceAP(), PanopticQuality(CITYSCAPES), SemanticIoU()]
)
def test_empty_results_can_be_written(tmp_path, metric):
    page = write(tmp_path / "r.html", metric.result())
    assert ">nan<" not in page.source.lower()


def test_an_image_without_objects_and_predictions_can_be_written(tmp_path):
    metric = CityscapesInstanceAP()
    metric.add(squares(), np.zeros((0, 64, 256), bool), [], [])
    page = write(tmp_path / "r.html", metric.result())
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page.source, flags=re.S)


def test_semantic_confusion_is_in_percent_of_the_truth(tmp_path):
    metric = SemanticIoU(2)
    metric.add(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 1, 1]]))
    rows = write(tmp_path / "r.html", metric.result()).rows
    assert ["class 0", "67", "33", "·"] in rows
    assert ["class 1", "·", "100", "·"] in rows


def test_instance_confusion_has_the_truth_in_rows(tmp_path):
    rows = write(tmp_path / "r.html", instance_metric().result()).rows
    at = next(i for i, row in enumerate(rows) if row[0].startswith("truth"))
    matrix = {row[0]: dict(zip(rows[at][1:], row[1:], strict=True)) for row in rows[at + 1 :]}
    assert matrix["car"]["background"] == "1"  # missed
    assert matrix["background"]["person"] == "2"  # false
    assert matrix["person"]["person"] == "2"
    assert matrix["background"]["background"] == ""


@pytest.mark.parametrize("metric", [instance_metric(), SemanticIoU(2)])
def test_tables_can_be_heard(tmp_path, metric):
    """Every place that scrolls has a name and every header its scope; matrices are alike."""
    page = write(tmp_path / "r.html", metric.result())
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
    rows = write(tmp_path / "r.html", metric.result()).rows
    assert ["road", "100.0", "100.0", "100.0", "1", "0", "0"] in rows
    assert ["things", "0.0", "0.0", "0.0", "0", "0", "1"] in rows
    assert ["stuff", "100.0", "100.0", "100.0", "1", "0", "0"] in rows
    assert ["all", "50.0", "50.0", "50.0", "1", "0", "1"] in rows


def coco_result():
    """A car that is found, one that is missed, and a bus, of which there is none, far off."""
    square = squares(26001) == 26001
    objects = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "segmentation": encode_rle(np.roll(square, 60 * i, 1)),
            "area": 400,
        }
        for i in range(2)
    ]
    metric = CocoMaskAP(
        {
            "images": [{"id": 1, "height": 64, "width": 256}],
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
            "annotations": objects,
        }
    )
    metric.add(1, np.stack([square, np.roll(square, 150, 1)]), [1, 2], [0.9, 0.8])
    return metric.result()


def test_coco_has_its_twelve_numbers_and_classes(tmp_path):
    result = coco_result()
    rows = write(tmp_path / "r.html", result).rows
    numbers = {row[0]: row[-1] for row in rows if len(row) == 5}
    expected = {
        name: MISSING if number is None else f"{100 * number:.1f}"
        for name, number in result.to_json().items()
        if name not in ("per_category", "tool")
    }
    assert numbers == {"number": "%", **expected}
    assert len(expected) == 12
    assert expected["APm"] == MISSING
    # Half of the objects: 51 of the 101 recalls.
    assert ["car", "50.5", "50.5", "50.5"] in rows
    assert ["bus", MISSING, MISSING, MISSING] in rows
    assert ["car", *["50.5"] * 10] in rows


def spied_captions(monkeypatch):
    captions = []
    add_labels = drawing.add_labels

    def spy(*arguments, things, stuff):
        captions.append(sorted(text[0] for text in things.values()))
        return add_labels(*arguments, things=things, stuff=stuff)

    monkeypatch.setattr(drawing, "add_labels", spy)
    return captions


def test_only_predictions_are_labelled_with_scores(monkeypatch):
    captions = spied_captions(monkeypatch)
    found = true_instances(squares(26001))
    image = np.zeros((64, 256, 3), np.uint8)
    for show_scores in (False, True):
        overlay(image, found, things(CITYSCAPES), show_scores=show_scores)
    assert captions == [["car"], ["car 1.00"]]


@pytest.mark.parametrize("encoded", [False, True])
def test_pictures_of_predictions_in_files(tmp_path, monkeypatch, encoded):
    """Those above the threshold, of evaluated classes, best first."""
    truth = squares(26001, 24001)
    item = CityscapesImage("a_000000_000000", tmp_path / "image.png", tmp_path / "a_gtFine")
    Image.fromarray(np.zeros((64, 256, 3), np.uint8)).save(item.image)
    Image.fromarray(truth.astype(np.uint16)).save(item.instance_ids)
    masks = np.stack([truth == 24001, truth == 26001, truth == 26001, truth == 7])
    labels, scores = np.array([PERSON, CAR, 27, 7]), np.array([0.6, 0.3, 0.9, 0.9])
    metric = CityscapesInstanceAP()
    metric.add(truth, masks, labels, scores, item.name)

    class Files:
        def path(self, _):
            raise AssertionError

        def read(self, _):
            return InstancePrediction(
                list(map(encode_rle, masks)) if encoded else masks, labels, scores
            )

    captions = spied_captions(monkeypatch)
    [picture] = worst_pictures_of_files(Files(), [item], metric.result())
    assert picture.caption == "1 missed, 1 false"
    assert captions == [["car", "person"], ["person 0.60", "truck 0.90"]]


def test_worst_images_name_faults_and_leave_out_perfect_images():
    assert worst_images(instance_metric().result()) == {"b": "1 missed, 2 false"}
    assert worst_images(instance_metric().result(), count=0) == {}


def test_worst_images_take_turns_and_are_in_the_order_of_their_table(tmp_path):
    metric = CityscapesInstanceAP()
    nothing = np.zeros((0, 64, 256), bool)
    for missed in (1, 2, 3):
        truth = squares(*range(26001, 26001 + missed))
        metric.add(truth, nothing, [], [], f"missed {missed}")
    for false in (1, 2):
        masks = np.stack([squares(26001) == 26001] * false)
        metric.add(squares(), masks, [CAR] * false, [0.9] * false, f"false {false}")
    assert list(worst_images(metric.result(), 3)) == ["missed 3", "missed 2", "false 2"]
    assert list(worst_images(metric.result(), 2)) == ["missed 3", "false 2"]
    rows = write(tmp_path / "r.html", metric.result()).rows
    table = [row[0] for row in rows if row[0].startswith(("missed", "false"))]
    assert table == ["missed 3", "missed 2", "false 2", "missed 1", "false 1"]


def test_true_instances_are_those_that_count():
    canvas = squares(26001, 24001, 29001, 24)  # car, person, caravan, group of persons
    canvas[40:42, 40:42] = 26002  # tiny
    found = true_instances(canvas)
    assert sorted(found.labels.tolist()) == [0, 2]
    assert found.masks.sum(axis=(1, 2)).tolist() == [400, 400]
    assert len(true_instances(squares())) == 0


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
    write(path, instance_metric().result())
    assert replaced == [path]
    with pytest.raises(TypeError, match="no report can be made of a dict"):
        write(path, {})
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
