import json
import math

import numpy as np
import pytest
from m2f_jax.eval.metrics.semantic.semantic_iou import SemanticIoU

from m2f_jax.labels import ADE20K, CITYSCAPES, Label
from tests.eval.metrics.golden_sets import (
    GoldenSets,
    check_order_and_merges,
    check_order_without_names,
)

ROAD, SIDEWALK, CAR, TRUCK, PERSON, RIDER, CARAVAN, VOID = 7, 8, 26, 27, 24, 25, 29, 4
LABEL_IDS = np.array([label.id for label in CITYSCAPES])


def scores(*images, **settings):
    """The result for images of ground truth, prediction and perhaps instance ids."""
    metric = SemanticIoU(**settings)
    for image in images:
        metric.add(*map(np.array, image))
    return metric.result()


class GoldenMaps(GoldenSets):
    """Label maps of Cityscapes, predicted ones and instance ids."""

    def image(self, image):
        height, width = self.arrays["sizes"][image].tolist()
        pixels = slice(self.ends[image] - height * width, self.ends[image])
        return tuple(
            self.arrays[name][pixels].reshape(height, width)
            for name in ("label_ids", "predictions", "instance_ids")
        )

    def empty(self, number):
        del number  # all have the same classes
        return SemanticIoU()


@pytest.fixture(scope="module")
def golden():
    return GoldenMaps("semantic_iou.npz")


def test_the_numbers_are_the_official_ones(golden):
    for number in range(len(golden)):
        result = golden.metric(number).result()
        averages = result.miou, result.iiou, result.category_miou, result.category_iiou
        np.testing.assert_array_equal(averages, golden.arrays["averages"][number])
        np.testing.assert_array_equal(result.confusion, golden.arrays["confusion"][number])
        content = json.loads(json.dumps(result.to_json(), allow_nan=False))
        for kind, expected in (("class", "class_scores"), ("category", "category_scores")):
            found = [content[f"{kind}Scores"].values(), content[f"{kind}InstScores"].values()]
            found = np.array([list(column) for column in found], float)  # None becomes NaN
            np.testing.assert_array_equal(found.T, golden.arrays[expected][number])
        priors = list(content["priors"].values())
        np.testing.assert_array_equal(priors, golden.arrays["priors"][number])


def test_golden_sets_cover_what_matters(golden):
    for name in ("class_scores", "category_scores"):
        found = golden.arrays[name]
        assert ((found > 0) & (found < 1)).sum() > 200
        assert (found == 0).any()
        assert np.isnan(found).any()


def test_the_order_of_images_and_merges_changes_no_bit(golden, tmp_path):
    check_order_and_merges(golden, len(golden) - 1, tmp_path)


def test_images_without_names_come_in_any_order_too(golden):
    check_order_without_names(golden, len(golden) - 1)


@pytest.mark.parametrize("with_objects", [False, True])
def test_save_and_load(golden, tmp_path, with_objects):
    path = tmp_path / "metric.npz"
    metric = SemanticIoU()
    for image in golden.images(len(golden) - 1)[:5]:
        labels, prediction, instances = golden.image(image)
        metric.add(labels, prediction, instances if with_objects else None, image=str(image))
    metric.save(path)
    metric.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["metric.npz"]
    loaded = SemanticIoU.load(path)
    assert len(loaded) == 5
    assert loaded.result().to_json() == metric.result().to_json()
    assert math.isnan(loaded.result().iiou) == (not with_objects)
    with pytest.raises(ValueError, match="were added already"):
        metric.merge(loaded)
    SemanticIoU().save(path)
    empty = SemanticIoU.load(path)
    empty.merge(metric)
    assert empty.result().to_json() == metric.result().to_json()


def test_save_and_load_other_classes(tmp_path):
    metric = SemanticIoU(ADE20K, ignore=255)
    metric.add(np.array([[0, 149, 255]]), np.array([[0, 3, 1]]), image="a")
    metric.save(tmp_path / "metric.npz")
    loaded = SemanticIoU.load(tmp_path / "metric.npz")
    assert loaded.result().to_json() == metric.result().to_json()
    loaded.merge(SemanticIoU(ADE20K))
    for other in (SemanticIoU(), SemanticIoU(150), SemanticIoU(ADE20K, ignore=200)):
        with pytest.raises(ValueError, match="different classes"):
            loaded.merge(other)


def test_files_of_another_kind_are_named(tmp_path):
    path = tmp_path / "metric.npz"
    SemanticIoU().save(path)
    for content in (path.read_bytes()[:-30], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"metric\.npz isn't a whole file of SemanticIoU"):
            SemanticIoU.load(path)
    np.savez(path, format="something else")
    with pytest.raises(ValueError, match="its format is something else"):
        SemanticIoU.load(path)
    with pytest.raises(FileNotFoundError):
        SemanticIoU.load(tmp_path / "absent.npz")


def test_false_alarms_count_only_on_evaluated_pixels():
    truth = [[ROAD, ROAD, ROAD, VOID, SIDEWALK]]
    result = scores((truth, [[ROAD, ROAD, VOID, ROAD, ROAD]]))
    assert result.per_class["road"].iou == 2 / 4  # one missed, one false alarm; void is left out
    assert result.per_class["sidewalk"].iou == 0
    assert math.isnan(result.per_class["sky"].iou)  # nowhere: in no mean
    assert result.miou == 0.25
    assert result.per_category["flat"].iou == 3 / 4
    names = ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]
    assert list(result.per_category) == names
    assert len(result.per_class) == 19
    assert result.confusion[VOID, ROAD] == 1


def test_a_class_that_is_only_predicted_scores_zero():
    result = scores(([[ROAD, ROAD]], [[ROAD, CAR]]))
    assert result.per_class["car"].iou == 0
    assert result.miou == 0.25


def test_objects_weigh_alike():
    truth = np.full((1, 110), CAR)
    instances = np.array([[26000] * 100 + [26001] * 10])
    prediction = np.where(np.arange(110) < 100, CAR, ROAD)[None]
    result = scores((truth, prediction, instances))
    assert result.per_class["car"].iou == 100 / 110
    assert result.per_class["car"].iiou == pytest.approx(0.5)
    assert result.iiou == result.per_class["car"].iiou  # the other classes have no objects
    assert math.isnan(result.per_class["road"].iiou)
    assert math.isnan(result.per_category["flat"].iiou)


def test_groups_are_no_objects_and_false_alarms_are_not_weighted():
    truth, instances = [[CAR, CAR, CAR, ROAD]], [[26000, 26000, CAR, ROAD]]
    result = scores((truth, [[CAR, CAR, ROAD, CAR]], instances))
    mean_area = 12794.0202738185
    assert result.per_class["car"].iiou == mean_area / (mean_area + 1)


def test_a_predicted_caravan_is_a_vehicle_only_for_objects():
    truth, instances = [[CAR, CAR, ROAD]], [[26000, 26000, ROAD]]
    result = scores((truth, [[TRUCK, CARAVAN, CARAVAN]], instances))
    assert result.per_category["vehicle"].iou == 1 / 2
    mean_area = 12794.0202738185
    assert result.per_category["vehicle"].iiou == mean_area / (mean_area + 1)
    assert result.per_class["car"].iiou == 0


def test_objects_of_classes_that_are_not_evaluated_are_left_out():
    truth, instances = [[CARAVAN, PERSON]], [[29000, 24000]]
    result = scores((truth, [[RIDER, PERSON]], instances))
    assert result.per_class["person"].iiou == 1
    assert math.isnan(result.per_category["vehicle"].iiou)
    assert result.per_category["human"].iiou == 1


def test_nothing_added_has_no_scores():
    result = SemanticIoU().result()
    assert math.isnan(result.miou)
    assert math.isnan(result.iiou)
    assert result.to_json()["priors"]["road"] is None


def test_contiguous_classes():
    truth, prediction = [[0, 1, 2, 255, 255]], [[0, 2, 2, 1, 0]]
    names = [Label(id=k + 5, name=name, is_thing=False) for k, name in enumerate("abcd")]
    for classes in (4, names):
        result = scores((truth, prediction), classes=classes)
        expected = [1.0, 0.0, 0.5, math.nan]
        np.testing.assert_array_equal([s.iou for s in result.per_class.values()], expected)
        assert result.miou == 0.5
        assert result.per_category == {}
        assert math.isnan(result.category_miou)
    assert list(result.per_class) == ["a", "b", "c", "d"]
    # Predicted where the truth has a class, "none" is a miss.
    assert scores(([[0, 0]], [[0, 255]]), classes=4).miou == 0.5
    large = scores(([[0, 65535]], [[0, 300]]), classes=400, ignore=65535)
    assert large.miou == 1


def test_train_ids_give_the_same_class_scores_as_label_ids():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 19, (2, 40, 50))
    void = rng.random(truth.shape) < 0.1
    by_train_id = scores((np.where(void, 255, truth), prediction), classes=CITYSCAPES)
    by_label_id = scores((np.where(void, VOID, LABEL_IDS[truth]), LABEL_IDS[prediction]))
    assert list(by_train_id.per_class) == list(by_label_id.per_class)
    np.testing.assert_array_equal(
        [score.iou for score in by_train_id.per_class.values()],
        [score.iou for score in by_label_id.per_class.values()],
    )
    assert by_train_id.miou == by_label_id.miou


def test_maps_of_any_integer_type_and_layout(golden):
    image = golden.image(golden.images(2)[0])
    expected = scores(image).to_json()
    for kind in (np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        converted = [np.asfortranarray(values.astype(kind)) for values in image]
        assert scores(converted).to_json() == expected
    assert scores([values[::-1, ::-1] for values in image]).to_json() == expected


GOOD = ([[ROAD, CAR]], [[ROAD, CAR]], [[ROAD, 26000]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({1: [[ROAD]]}, r"size of the prediction is \(1, 1\), that of the ground truth \(1, 2\)"),
        ({2: [[ROAD]]}, r"the size of the instance ids is \(1, 1\)"),
        ({1: [[7.0, 26.0]]}, "for the prediction, whole numbers .*float64"),
        ({1: [[[7, 26, 0]]]}, r"for the prediction, .*shape \(1, 1, 3\)"),
        ({1: [[7, -1]]}, "the values of the prediction go from -1 to 7"),
        ({1: [[7, 34]]}, r"the prediction has the values \[34\], but label ids end at 33"),
        ({1: [[33, 255]]}, r"the prediction has the values \[255\], .* without a class are 0"),
        ({0: [[7, 40]]}, r"the ground truth has the values \[40\]"),
        ({0: [[0, 255]]}, "the ground truth has the value 255 and none above 18: .* train ids"),
        ({1: [[13, 255]]}, "the prediction has the value 255 and none above 18: .* train ids"),
        ({2: [[7, 34000]]}, "the values of the instance ids go from 0 to 34000"),
        ({2: [[7001, 26000]]}, "7001 is the id of an object, but 7, road, is stuff"),
    ],
)
def test_bad_input_is_named(changes, message):
    metric = SemanticIoU()
    with pytest.raises(ValueError, match=f"image ulm 3: .*{message}"):
        metric.add(*(np.array(changes.get(k, GOOD[k])) for k in range(3)), image="ulm 3")
    assert len(metric) == 0
    assert not metric.result().confusion.any()


def test_train_ids_in_place_of_label_ids_are_found():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 19, (20, 20))
    prediction = np.where(rng.random(truth.shape) < 0.4, rng.integers(0, 19, truth.shape), truth)
    labels = LABEL_IDS[truth]
    with pytest.raises(ValueError, match=r"the prediction has no value but \[0, 1,.*_labelIds"):
        SemanticIoU().add(labels, prediction)
    SemanticIoU().add(labels, LABEL_IDS[prediction])

    # Few and never evaluated labels alone are no mistake: nothing agrees better as train ids.
    SemanticIoU().add(np.array([[ROAD, 1, 1, 0]]), np.array([[ROAD, 1, 0, 0]]))
    SemanticIoU().add(np.array([[ROAD, ROAD]]), np.array([[0, 1]]))


def test_images_are_added_once_and_all_alike():
    good = tuple(map(np.array, GOOD))
    metric = SemanticIoU()
    metric.add(*good, image="a")
    with pytest.raises(ValueError, match=r"the images \['a'\] were added already"):
        metric.add(*good, image="a")
    with pytest.raises(ValueError, match="instance ids for every image or for none"):
        metric.add(*good[:2], image="b")
    without = SemanticIoU()
    without.add(*good[:2])
    with pytest.raises(ValueError, match="instance ids for every image or for none"):
        metric.merge(without)
    metric.merge(SemanticIoU())
    assert len(metric) == 1


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="ignore is 3, which must be above the classes, 0 to 3"):
        SemanticIoU(4, ignore=3)
    with pytest.raises(ValueError, match="and at most 65535"):
        SemanticIoU(4, ignore=65536)
    with pytest.raises(ValueError, match="several classes share a name"):
        SemanticIoU(ADE20K[:2] * 2)
    with pytest.raises(ValueError, match="instance ids are for Cityscapes' label ids only"):
        SemanticIoU(40).add(*map(np.array, GOOD))
    with pytest.raises(ValueError, match=r"has the values \[4\]; classes go from 0 to 3.* 255"):
        SemanticIoU(4).add(np.array([[0, 1]]), np.array([[0, 4]]))
