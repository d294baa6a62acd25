"""Data sets in the layouts that the authors describe: what is learned, evaluated and refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from m2f_jax.eval.evaluation import checked_evaluation
from m2f_jax.eval.predictions.files import InstancePrediction, PanopticPrediction
from m2f_jax.eval.tasks import evaluation_of, matched_labels

from m2f_jax.cli.training.data import find_data
from m2f_jax.datasets.checking import check_examples
from m2f_jax.datasets.id_maps import ranges
from m2f_jax.datasets.opening import LAYOUTS, has_split, layout_of, open_dataset
from m2f_jax.labels import ADE20K, ADE20K_FULL, COCO_STUFF, MAPILLARY_VISTAS, things
from tests.datasets.test_datasets import same
from tests.datasets.trees import (
    SIZE,
    ade20k_full_tree,
    ade20k_tree,
    coco_stuff_tree,
    coco_tree,
    halves,
    mapillary_tree,
    save,
    save_json,
    two_beds,
)

LEFT, RIGHT = halves(1, 0, 0) == 1, halves(0, 1, 0) == 1


@pytest.mark.parametrize(
    ("tree", "layout", "known", "classes"),
    [
        (ade20k_tree, "ade20k", ADE20K, (0, 7)),
        (ade20k_full_tree, "ade20k-full", ADE20K_FULL, (3, 846)),
        (mapillary_tree, "mapillary", MAPILLARY_VISTAS, (13, 55)),
        (coco_stuff_tree, "coco-stuff", COCO_STUFF, (0, 170)),
    ],
)
def test_semantic(tmp_path, tree, layout, known, classes):
    root = tree(tmp_path)
    for split in ("train", "val"):
        assert has_split(root, split)
        data = open_dataset(root, split, "semantic")
        assert data.labels == data.categories == known
        found = check_examples(data).counts
        assert np.flatnonzero(found[0]).tolist() == list(classes)
        for index, example in enumerate(data):
            assert example.image.shape == (*SIZE, 3)
            same(example, [(classes[0], LEFT), (classes[1], RIGHT)])
            assert data.files(index, "semantic")[1].is_file()
    assert open_dataset(root, "val", "semantic", layout=layout).title == data.title

    # Right on the left; on the right, 4 of 16 columns are taken for the left's class: of the 23
    # rows that count, IoUs of 16 / 20 and 12 / 16. What is said of nothing doesn't matter.
    evaluation = evaluation_of(data, "semantic")
    truth = evaluation.truth(0)
    prediction = np.full(SIZE, classes[0])
    prediction[:, 20:] = classes[1]
    scores = evaluation.count(0, truth, prediction).result()
    assert scores.miou == (16 / 20 + 12 / 16) / 2
    assert scores.per_class[known[classes[1]].name].iou == 12 / 16


def test_ade20k_as_it_is_downloaded(tmp_path):
    root = ade20k_tree(tmp_path)
    prepared = open_dataset(root, "val", "semantic")
    shutil.rmtree(root / "annotations_detectron2")
    data = open_dataset(root, "val", "semantic")
    assert (prepared.title, data.title) == (
        f"{root}, val (annotations_detectron2)",
        f"{root}, val (annotations)",
    )
    same(data[0], [(0, LEFT), (7, RIGHT)])
    assert [path.parent.parent.name for path in data.files(0, "semantic")] == [
        "images",
        "annotations",
    ]


@pytest.mark.parametrize("version", ["", "v1.2"])
def test_objects_of_mapillary_vistas(tmp_path, version):
    root, ids = mapillary_tree(tmp_path, version), two_beds()
    cars = [(55, ids == 2), (55, ids == 3)]
    same(open_dataset(root, "train", "panoptic")[0], [(13, ids == 1), *cars])
    data = open_dataset(root, "train", "instance")
    place = things(MAPILLARY_VISTAS).index(MAPILLARY_VISTAS[55])
    same(data[0], [(place, mask) for _, mask in cars])
    same(open_dataset(root, "val", "semantic")[0], [(13, LEFT), (55, RIGHT)])


def test_objects_of_ade20k(tmp_path):
    root, ids = ade20k_tree(tmp_path), two_beds()
    data = open_dataset(root, "val", "panoptic")
    assert data.labels == data.categories == ADE20K
    same(data[0], [(0, ids == 1), (7, ids == 2), (7, ids == 3)])
    evaluation = evaluation_of(data, "panoptic")
    # The wall and one bed are right; the other bed is missed by half: an IoU of exactly 0.5 doesn't
    # match. PQ is 1 for the wall, and 1 / (1 + 1/2 + 1/2) for the beds.
    prediction = np.where((ids == 3) & (np.arange(SIZE[1]) < 22), 0, ids)
    segments = [{"id": k, "category_id": c} for k, c in ((1, 0), (2, 7), (3, 7))]
    truth = evaluation.truth(0)
    quality = evaluation.count(0, truth, PanopticPrediction(prediction, segments)).result()
    assert quality.per_class["wall"].pq == 1
    assert quality.per_class["bed"].pq == 0.5
    assert quality.all.pq == 0.75

    data = open_dataset(root, "val", "instance")
    assert data.labels == data.categories == things(ADE20K)
    assert check_examples(data).counts[0, 0] == 2
    same(data[0], [(0, ids == 2), (0, ids == 3)])
    assert matched_labels(ADE20K, data, "instance") == ADE20K  # a panoptic model's
    # Both beds are found, one of them only with an IoU of 0.5: by COCO's rules that is a match at
    # 0.5 alone, so of 10 overlaps one has an AP of 1, and the others one of 51 / 101.
    masks = np.stack([ids == 2, (ids == 3) & (np.arange(SIZE[1]) < 22)])
    evaluation = evaluation_of(data, "instance")
    found = InstancePrediction(masks, np.array([7, 7]), np.array([0.9, 0.8]))
    precision = evaluation.count(0, evaluation.truth(0), found).result()
    assert precision.ap50 == pytest.approx(1)
    assert precision.ap == pytest.approx((1 + 9 * 51 / 101) / 10)


def test_a_model_without_things_has_no_instances(tmp_path):
    data = open_dataset(ade20k_tree(tmp_path), "val", "instance")
    with pytest.raises(ValueError, match="knows no things; its instance segmentation"):
        matched_labels(ADE20K[:3], data, "instance")
    with pytest.raises(ValueError, match="1 of the model's 1 classes aren't among those of"):
        matched_labels(ADE20K_FULL[:1] + things(MAPILLARY_VISTAS)[:1], data, "instance")


@pytest.mark.parametrize("maps", ["panoptic_val2017", "annotations/panoptic_val2017"])
def test_coco_s_maps_lie_in_its_folder_or_beside_the_annotations(tmp_path, maps):
    root, ids = coco_tree(tmp_path, maps), two_beds()
    data = open_dataset(root, "val", "panoptic")
    same(data[0], [(1, ids == 1), (0, ids == 2), (0, ids == 3)])
    assert data.files(0, "panoptic")[2] == root / maps / "a.png"
    assert not has_split(root, "train")
    assert not has_split(root, "dev")


def refused(root, match, task="semantic", layout=None, split="val", error=FileNotFoundError):
    with pytest.raises(error, match=match):
        open_dataset(root, split, task, layout=layout)


def test_what_is_missing_is_named_with_the_layout(tmp_path):
    root = ade20k_tree(tmp_path, splits=("train",))
    refused(root, "images/validation is missing; ADE20K is expected as images/{training,validat")
    refused(tmp_path, f"{tmp_path} holds ADE20K in ADEChallengeData2016/; name that folder")
    refused(tmp_path, "holds ADE20K in ADEChallengeData2016/; name that", layout="ade20k")
    refused(tmp_path, "holds ADE20K in ADEChallengeData2016/; name that", split="train")
    refused(tmp_path, "validation/images is missing; Mapillary.* expected", layout="mapillary")
    refused(tmp_path / "no", "no/images_detectron2/test is missing; COCO-S", layout="coco-stuff")
    refused(root, "ADE20K has the splits train, val, not dev", split="dev", error=ValueError)

    (root / "ade20k_instance_train.json").unlink()
    refused(
        root, "instance_train.json is missing; .* ADE20K is expected", "instance", None, "train"
    )
    (root / "annotations_detectron2" / "training" / "ADE_train_00000002.png").unlink()
    match = "1 of 2 images have no map of ids, .*ADE_train_00000002.png; ADE20K is expected"
    refused(root, match, split="train")
    shutil.rmtree(root / "annotations_detectron2")
    shutil.rmtree(root / "annotations")
    refused(root, "annotations_detectron2/training is missing; ADE20K is", split="train")

    full = ade20k_full_tree(tmp_path)
    match = "full ADE20K has maps of classes, .* the semantic task alone, not panoptic"
    refused(full, match, "panoptic", error=ValueError)
    with pytest.raises(ValueError, match="semantic task alone, not instance"):
        open_dataset(full, "val", "semantic").ground_truth(0, "instance")


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
@pytest.mark.parametrize("tree", [ade20k_tree, mapillary_tree])
def test_both_splits_serve_training(tmp_path, tree, task):
    data = find_data(tree(tmp_path), task, None)
    known = ADE20K if tree is ade20k_tree else MAPILLARY_VISTAS
    assert data.examples.labels == data.held_out.labels
    assert data.held_out.labels == (things(known) if task == "instance" else known)
    _, files = checked_evaluation(data.held_out, task, known)
    assert data.held_out.images[0].image in files


def test_layouts_are_told_apart(tmp_path):
    trees = {
        "ade20k": ade20k_tree,
        "ade20k-full": ade20k_full_tree,
        "mapillary": mapillary_tree,
        "coco-stuff": coco_stuff_tree,
    }
    for name, tree in trees.items():
        root = tree(tmp_path)
        assert [key for key, layout in LAYOUTS.items() if layout.is_at(root)] == [name]
        assert layout_of(root) is LAYOUTS[name]
        save_json(root / "annotations.json", {})
        assert layout_of(root) is None  # a user's, with folders of these names


def test_ids_of_no_class_are_refused(tmp_path):
    root = ade20k_tree(tmp_path)
    file = root / "annotations_detectron2" / "validation" / "ADE_val_00000001.png"
    save(file, halves(0, 150, 255))
    data = open_dataset(root, "val", "semantic")
    match = "ADE_val_00000001.png has pixels of the unknown class 150; .* 0 to 149, 255$"
    with pytest.raises(ValueError, match=match):
        check_examples(data)

    full = ade20k_full_tree(tmp_path)
    file = full / "annotations_detectron2" / "validation" / "ADE_val_00000001.tif"
    save(file, halves(1000, 846, 65_535, np.uint16))
    with pytest.raises(ValueError, match="unknown class 1000; known class ids are 0 to 846, 65535"):
        check_examples(open_dataset(full, "val", "semantic"))
    save(file, halves(3, 84, 255))  # in 16 bits, 255 is a class
    with pytest.raises(ValueError, match=r"00000001\.tif is a map of 8 bits; its ids need 16"):
        check_examples(open_dataset(full, "val", "semantic"))
    assert ranges([9, 3, 1, 2, 5, 6]) == "1 to 3, 5, 6, 9"


def test_files_that_number_the_classes_otherwise_are_refused(tmp_path):
    root = ade20k_tree(tmp_path)
    hut = dataclasses.replace(ADE20K[1], name="hut")
    with pytest.raises(ValueError, match="1 of the 1 classes to learn aren't those of ADE20K: hut"):
        open_dataset(root, "val", "semantic", (hut,))
    file = root / "ade20k_panoptic_val.json"
    content = json.loads(file.read_text())
    for entry in content["categories"]:
        entry["id"] += 1  # as in annotations/
    for entry in content["annotations"][0]["segments_info"]:
        entry["category_id"] += 1
    save_json(file, content)
    refused(root, "wall is the category 1, and in .* 0; make", "panoptic", error=ValueError)
    content["annotations"][0]["segments_info"][0]["category_id"] = 150
    save_json(file, content)
    refused(root, "segments of the category 150, which isn't", "panoptic", error=ValueError)
    content = {"images": [], "categories": [{"id": 3, "name": "floor"}], "annotations": []}
    save_json(root / "ade20k_instance_val.json", content)
    assert open_dataset(root, "val", "instance").labels == things(ADE20K)  # nothing uses it
