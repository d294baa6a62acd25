"""Training data read from disk: Cityscapes, COCO's formats, folders; faults found beforehand."""

import dataclasses
import json
import shutil

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from PIL import Image

from m2f_jax.datasets.checking import check_examples, with_segments
from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.examples import Segments
from m2f_jax.datasets.folder import folder_dataset
from m2f_jax.datasets.opening import open_dataset
from m2f_jax.datasets.published.cityscapes import cityscapes_dataset
from m2f_jax.images import read_ids
from m2f_jax.labels import CITYSCAPES, Label, things
from m2f_jax.streets import write_streets

THINGS = things(CITYSCAPES)
SIZE = (24, 32)
CAT, DOG, GRASS = (
    Label(id=1, name="cat", is_thing=True),
    Label(id=2, name="dog", is_thing=True),
    Label(id=7, name="grass", is_thing=False),
)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def as_rgb(ids):
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def save_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def box(top, bottom, left, right):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def segments_of(example):
    """Label and mask of every segment, in an order of their own."""
    _, segments = example
    pairs = zip(segments.labels.tolist(), segments.masks, strict=True)
    return sorted((label, mask.tobytes()) for label, mask in pairs)


def same(example, expected):
    assert segments_of(example) == sorted((label, mask.tobytes()) for label, mask in expected)


# --- segments ---


def test_overlapping_masks_are_kept():
    rng = np.random.default_rng(0)
    masks = rng.random((9, *SIZE)) < 0.3
    masks[4] = False
    masks[5] = masks[6]
    segments = Segments.from_masks(iter(masks), np.arange(9, dtype=np.int32), SIZE)
    np.testing.assert_array_equal(segments.masks, masks)
    np.testing.assert_array_equal(segments.areas, masks.sum((1, 2)))
    assert not segments.members[:, 0].any()
    assert set(np.unique(segments.regions)) >= set(range(1, segments.members.shape[1]))


def test_no_masks():
    segments = Segments.from_masks([], np.zeros(0, np.int32), SIZE)
    assert segments.masks.shape == (0, *SIZE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_segments_from_ids(dtype):
    top = np.iinfo(dtype).max if dtype != np.int32 else 16_000_000
    ids = np.random.default_rng(0).choice(np.array([0, 3, 5, top], dtype), SIZE)
    segments = Segments.from_ids(ids, {3: (1, 0), 5: (1, 0), top: (0, 9)}.get)
    assert dict(zip(segments.labels.tolist(), segments.masks, strict=True)).keys() == {0, 1}
    by_label = dict(zip(segments.labels.tolist(), segments.masks, strict=True))
    np.testing.assert_array_equal(by_label[1], (ids == 3) | (ids == 5))
    np.testing.assert_array_equal(by_label[0], ids == top)


# --- Cityscapes ---


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streets")
    write_streets(folder, 4, (128, 256), seed=3, split="train", workers=2)
    return folder


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
def test_cityscapes(streets, task):
    labels = THINGS if task == "instance" else CITYSCAPES
    examples = cityscapes_dataset(streets, "train", task, labels)
    assert len(examples) == 4
    counts = check_examples(examples).counts
    for index, example in enumerate(examples):
        ids = read_ids(examples.images[index].instance_ids)
        expected = []
        for k, label in enumerate(labels):
            if task == "semantic":
                masks = [np.where(ids >= 1000, ids // 1000, ids) == label.id]
            elif label.is_thing:
                masks = [ids == id_ for id_ in np.unique(ids) if id_ // 1000 == label.id]
            else:
                masks = [ids == label.id]
            masks = [mask for mask in masks if mask.any()]
            assert counts[index, k] == len(masks)
            expected += [(k, mask) for mask in masks]
        same(example, expected)
        assert example.image.shape == (128, 256, 3)
    assert counts.sum() > 4


def test_cityscapes_refuses_other_classes(streets):
    with pytest.raises(
        ValueError, match="1 of the 2 classes to learn aren't those of Cityscapes: dog"
    ):
        cityscapes_dataset(streets, "train", "semantic", (CITYSCAPES[0], DOG))


# --- folders of id maps ---


def write_ids(folder, labels=(CAT, DOG, GRASS)):
    """Two cats, a group of cats, grass in two parts; and an image without anything."""
    save_json(folder / "labels.json", [dataclasses.asdict(label) for label in labels])
    ids = np.zeros(SIZE, np.uint16)
    ids[2:9, 3:12] = 1000
    ids[5:20, 14:20] = 1007
    ids[20:24, :5] = 1
    ids[0, :] = ids[23, 6:] = 7
    ids[10, 0] = 255
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    save(folder / "images" / "a.jpg", image)
    save(folder / "ids" / "a.png", ids)
    save(folder / "images" / "b.png", image)
    save(folder / "ids" / "b.png", np.zeros(SIZE, np.uint8))
    return ids


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
def test_folder_of_ids(tmp_path, task):
    ids = write_ids(tmp_path)
    examples = folder_dataset(tmp_path, task)
    cats = [(0, ids == 1000), (0, ids == 1007)]
    if task == "instance":
        assert examples.labels == (CAT, DOG)
        same(examples[0], cats)
    else:
        assert examples.labels == (CAT, DOG, GRASS)
        grass = (2, ids == 7)
        all_cats = [(0, (ids >= 1000) | (ids == 1))]
        same(examples[0], [*(cats if task == "panoptic" else all_cats), grass])
    counts = check_examples(examples).counts
    assert counts.sum(axis=1).tolist() == [{"instance": 2, "panoptic": 3, "semantic": 2}[task], 0]
    with_some = with_segments(examples, counts)
    assert len(with_some) == 1
    assert segments_of(with_some[0]) == segments_of(examples[0])
    assert with_some.labels == examples.labels


def test_folder_with_large_ids_and_the_model_s_order(tmp_path):
    write_ids(tmp_path, (CAT, DOG, GRASS, Label(id=321, name="fox", is_thing=True)))
    ids = np.zeros(SIZE, np.int32)
    ids[3:9, 4:9] = 321_005
    save(tmp_path / "ids" / "a.png", as_rgb(ids))
    labels = folder_dataset(tmp_path, "panoptic").labels[::-1]
    examples = folder_dataset(tmp_path, "panoptic", labels)
    same(examples[0], [(0, ids > 0)])


def fault(folder, match, task="instance"):
    with pytest.raises((ValueError, FileNotFoundError), match=match) as caught:
        check_examples(folder_dataset(folder, task))
    return str(caught.value)


def test_faults_of_a_folder_are_named(tmp_path):
    ids = write_ids(tmp_path)
    png = tmp_path / "ids" / "a.png"
    good = png.read_bytes()

    png.write_bytes(good[: len(good) // 2])
    assert f"1 of the 2 images can't be used:\n  {png} can't be" in fault(tmp_path, "used")
    save(png, np.where(ids == 1007, 9000, ids).astype(np.uint16))
    message = fault(tmp_path, "unknown class 9; known class ids are 0 to 2, 7, 255")
    assert str(png) in message
    save(png, ids[:, 1:])
    fault(tmp_path, r"a.jpg is 24 x 32 .*a.png is 24 x 31; they must be equal")
    save(png, np.zeros((*SIZE, 4), np.uint8))
    fault(tmp_path, r"a.png isn't a map of ids \(PIL's mode RGBA\)")
    save(png, np.minimum(ids, 7))
    fault(tmp_path, r"none of the 2 images holds a segment .* \(cat, dog\)")

    png.write_bytes(good)
    image = tmp_path / "images" / "b.png"
    image.write_bytes(image.read_bytes()[:-20])
    fault(tmp_path, r"b.png can't be read as an image \(its end is missing\)")
    image.unlink()
    fault(tmp_path, r"1 maps of ids have no image in .*b.png")
    png.unlink()
    fault(tmp_path, r"1 of 1 images have no map of ids, .*a.png")


def test_many_faults_are_counted(tmp_path):
    write_ids(tmp_path)
    for k in range(8):
        (tmp_path / "images" / f"{k}.png").write_bytes(b"")
        save(tmp_path / "ids" / f"{k}.png", np.zeros(SIZE, np.uint8))
    assert "and 3 more" in fault(tmp_path, "8 of the 10 images can't be used")


def test_progress_counts_all_images(tmp_path):
    write_ids(tmp_path)
    calls = []
    check_examples(folder_dataset(tmp_path, "instance"), lambda *call: calls.append(call))
    assert calls == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([], "no classes"),
        ([{"id": 1, "name": "cat"}], "lacks the field is_thing"),
        ([dataclasses.asdict(CAT)] * 2, "has the id 1 twice"),
        ([{"id": 255, "name": "x", "is_thing": True}], "x has the id 255; ids are 1 to 999"),
    ],
)
def test_labels_are_checked(tmp_path, labels, match):
    write_ids(tmp_path)
    save_json(tmp_path / "labels.json", labels)
    fault(tmp_path, match)


def test_what_is_missing_in_a_folder_is_named(tmp_path):
    fault(tmp_path / "nothing", "nothing is missing; expected .*nothing/images/ with either")
    fault(tmp_path, "images is missing")
    (tmp_path / "images").mkdir()
    fault(tmp_path, "has no annotations.json or ids/")
    (tmp_path / "ids").mkdir()
    fault(tmp_path, "labels.json is missing")
    save_json(tmp_path / "labels.json", [dataclasses.asdict(CAT)])
    fault(tmp_path, "images holds no image")
    save_json(tmp_path / "annotations.json", {})
    fault(tmp_path, "has both")


def test_classes_of_model_and_folder_must_agree(tmp_path):
    write_ids(tmp_path)
    with pytest.raises(ValueError, match="lacks 1 of the model's 2 classes: bird; its own are cat"):
        folder_dataset(tmp_path, "instance", (CAT, dataclasses.replace(DOG, name="bird")))
    with pytest.raises(ValueError, match="has 1 classes that the model lacks: dog"):
        folder_dataset(tmp_path, "instance", (CAT,))


# --- COCO ---


POLYGON = [4.0, 2.0, 14.0, 2.0, 14.0, 9.0, 4.0, 9.0]  # x, y


def write_coco(folder, annotations=None):
    """A cat and a dog over it, a crowd of cats; and an image without anything."""
    rle = coco_mask.encode(np.asfortranarray(box(5, 15, 8, 20).astype(np.uint8)))
    counts = [8 * 24 + 5, *[10, 14] * 11, 10, 9 + 12 * 24]
    content = {
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "images": [
            {"id": 5, "file_name": "a.jpg", "height": 24, "width": 32},
            {"id": 3, "file_name": "b.jpg", "height": 24, "width": 32},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 1, "segmentation": [POLYGON], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 5,
                "category_id": 2,
                "segmentation": {"size": [24, 32], "counts": rle["counts"].decode()},
            },
            {
                "id": 3,
                "image_id": 5,
                "category_id": 1,
                "segmentation": {"size": [24, 32], "counts": counts},
                "iscrowd": 1,
            },
        ]
        if annotations is None
        else annotations,
    }
    save_json(folder / "annotations.json", content)
    for name in ("a.jpg", "b.jpg"):
        save(folder / "images" / name, np.zeros((*SIZE, 3), np.uint8))


def test_coco_objects(tmp_path):
    write_coco(tmp_path)
    examples = folder_dataset(tmp_path, "instance")
    assert [label.name for label in examples.labels] == ["cat", "dog"]
    cat, dog = box(2, 9, 4, 14), box(5, 15, 8, 20)
    assert check_examples(examples).counts.tolist() == [[0, 0], [1, 1]]  # in order of ids
    same(examples[0], [])
    same(examples[1], [(0, cat), (1, dog)])
    swapped = folder_dataset(tmp_path, "instance", examples.labels[::-1])
    same(swapped[1], [(1, cat), (0, dog)])
    semantic = folder_dataset(tmp_path, "semantic")
    same(semantic[1], [(0, cat | dog), (1, dog)])  # the crowd has the dog's outline


def test_a_split_that_roboflow_exported(tmp_path):
    write_coco(tmp_path)
    expected = folder_dataset(tmp_path, "instance")
    split = tmp_path / "exported" / "valid"
    shutil.copytree(tmp_path / "images", split)
    shutil.copy(tmp_path / "annotations.json", split / "_annotations.coco.json")
    (tmp_path / "exported" / "test" / "train2017").mkdir(parents=True)  # no reason to look for COCO
    examples = open_dataset(tmp_path / "exported", "valid", "instance")
    assert examples.labels == expected.labels
    for k in range(2):
        assert segments_of(examples[k]) == segments_of(expected[k])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"category_id": 9}, "annotation 1: category_id is 9, which isn't the id of one of the"),
        ({"segmentation": {"size": [24, 32], "counts": [5]}}, "add up to 5 pixels, the image has"),
    ],
)
def test_faults_of_coco_files_are_named(tmp_path, change, match):
    annotation = {"id": 1, "image_id": 5, "category_id": 1, "segmentation": [POLYGON]}
    write_coco(tmp_path, [annotation | change])
    fault(tmp_path, match)


def test_sizes_and_format_of_coco_files_are_checked(tmp_path):
    write_coco(tmp_path)
    save(tmp_path / "images" / "b.jpg", np.zeros((32, 24, 3), np.uint8))
    fault(tmp_path, "b.jpg is 32 x 24 .* image 3 of .*annotations.json is 24 x 32")
    (tmp_path / "images" / "b.jpg").unlink()
    fault(tmp_path, "b.jpg is missing")
    save_json(tmp_path / "annotations.json", {"images": []})
    fault(tmp_path, "annotations.json has no 'categories'; COCO's format has the lists")
    with pytest.raises(FileNotFoundError, match="expected a COCO annotation file"):
        coco_dataset(tmp_path / "none.json", tmp_path, "instance")


def test_a_photo_on_its_side(tmp_path):
    write_coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(np.zeros((32, 24, 3), np.uint8))
    photo.save(tmp_path / "images" / "a.jpg", exif=exif)
    examples = folder_dataset(tmp_path, "instance")
    check_examples(examples)
    assert examples[1].image.shape == (*SIZE, 3)


def write_panoptic(folder):
    ids = np.zeros(SIZE, np.int32)
    ids[2:9, 3:12], ids[2:9, 15:20], ids[10:20], ids[20:22], ids[23] = 70_001, 2, 300, 301, 9
    save(folder / "annotations" / "a.png", as_rgb(ids))
    save(folder / "images" / "a.jpg", np.zeros((*SIZE, 3), np.uint8))
    categories = [(1, "cat", 1), (7, "grass", 0)]
    segments = [(70_001, 1, 0), (2, 1, 0), (300, 7, 0), (301, 7, 0), (9, 1, 1)]
    content = {
        "categories": [dict(zip(("id", "name", "isthing"), c, strict=True)) for c in categories],
        "images": [{"id": 1, "file_name": "a.jpg", "height": 24, "width": 32}],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "a.png",
                "segments_info": [
                    dict(zip(("id", "category_id", "iscrowd"), s, strict=True)) for s in segments
                ],
            }
        ],
    }
    save_json(folder / "annotations.json", content)
    return ids, content


def test_coco_panoptic(tmp_path):
    ids, content = write_panoptic(tmp_path)
    cats, grass = [(0, ids == 70_001), (0, ids == 2)], (1, (ids == 300) | (ids == 301))
    same(folder_dataset(tmp_path, "panoptic")[0], [*cats, grass])
    same(folder_dataset(tmp_path, "instance")[0], cats)
    all_cats = (0, (ids == 70_001) | (ids == 2) | (ids == 9))
    same(folder_dataset(tmp_path, "semantic")[0], [all_cats, grass])

    content["annotations"][0]["segments_info"].pop()
    save_json(tmp_path / "annotations.json", content)
    fault(tmp_path, "a.png has pixels of the segment 9, which isn't in the segments_info")
