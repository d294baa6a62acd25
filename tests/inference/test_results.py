import json

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from PIL import Image

from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segment,
    mask_box,
)
from m2f_jax.labels import Label

LABELS = (
    Label(id=24, name="person", is_thing=True),
    Label(id=19, name="traffic light", is_thing=True),
    Label(id=7, name="road", is_thing=False),
)


@pytest.fixture
def instances():
    masks = np.zeros((3, 5, 8), bool)
    masks[0, 1:3, 2:7] = True
    masks[1, 4, 7] = True  # masks[2] stays empty
    return InstanceSegmentation.from_masks(
        scores=np.array([0.9, 1e-5, 1e-7], np.float32),
        labels=np.array([1, 0, 1]),
        masks=masks,
        queries=np.array([30, 10, 20]),
    )


@pytest.fixture
def panoptic():
    segment_map = np.zeros((4, 6), np.int32)
    segment_map[1:3, 2:5] = 300
    segment_map[2, 3:6] = 70_000
    return PanopticSegmentation(
        segment_map=segment_map,
        segments=(
            Segment(id=300, label=2, is_thing=False, score=0.75),
            Segment(id=70_000, label=1, is_thing=True, score=0.5),
        ),
    )


def test_boxes_bound_the_masks(instances):
    np.testing.assert_array_equal(instances.boxes, [[2, 1, 7, 3], [7, 4, 8, 5], [0, 0, 0, 0]])


@pytest.mark.parametrize("width", [1, 8, 13, 40])
def test_masks_and_boxes_survive_packing(width):
    rng = np.random.default_rng(width)
    masks = rng.random((40, 6, width)) < 0.2
    masks &= np.arange(width) >= rng.integers(0, width, (40, 1, 1))  # many with an empty left
    masks[:2] = [[[False]], [[True]]]
    of_each = {"scores": rng.random(40), "labels": np.arange(40), "queries": np.arange(40)}
    instances = InstanceSegmentation.from_masks(masks=masks, **of_each)
    np.testing.assert_array_equal(instances.masks, masks, strict=True)
    boxes = np.array([mask_box(mask) for mask in masks], np.float32)
    np.testing.assert_array_equal(instances.boxes, boxes, strict=True)


def test_no_instances(instances):
    none = instances.select(np.zeros(3, bool))
    assert (none.masks.shape, none.boxes.shape) == ((0, 5, 8), (0, 4))
    assert none.to_rle() == none.to_coco(LABELS, 1) == []


def test_masks_are_unpacked_when_asked_for_and_not_before(instances, tmp_path):
    instances.to_coco(LABELS, 1)
    instances.save_cityscapes(tmp_path, "a_0_1", LABELS)
    assert "masks" not in vars(instances)
    assert instances.masks is instances.masks
    with pytest.raises(ValueError, match="read-only"):
        instances.masks[0] = False


def test_select_takes_a_mask_or_indices(instances):
    kept = instances.select(np.array([False, True, True]))
    assert len(kept) == 2
    np.testing.assert_array_equal(kept.queries, [10, 20])
    swapped = instances.select(np.array([2, 0]))
    np.testing.assert_array_equal(swapped.queries, [20, 30])
    np.testing.assert_array_equal(swapped.masks, instances.masks[[2, 0]])
    assert len(instances.select(np.zeros(3, bool))) == 0


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # in pycocotools' decoder
def test_coco_entries_survive_json(instances):
    entries = json.loads(json.dumps(instances.to_coco(LABELS, image_id=42)))
    assert [entry["category_id"] for entry in entries] == [19, 24, 19]
    keys = {"image_id", "category_id", "segmentation", "score"}  # pycocotools would use a bbox
    assert [set(entry) for entry in entries] == [keys] * 3
    for entry, score, mask, rle in zip(
        entries, instances.scores, instances.masks, instances.to_rle(), strict=True
    ):
        assert entry["image_id"] == 42
        assert entry["score"] == score
        assert entry["segmentation"] == rle
        np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), mask)


def test_cityscapes_files_hold_the_instances(instances, tmp_path):
    folder = tmp_path / "new folder"
    instances.save_cityscapes(folder, "ulm_000001_000019", LABELS)
    lines = (folder / "ulm_000001_000019.txt").read_text().splitlines()
    for line, label, score, mask in zip(
        lines, (19, 24, 19), instances.scores, instances.masks, strict=True
    ):
        path, label_id, written = line.split(" ")
        image = Image.open(folder / path)
        assert int(label_id) == label
        assert np.float32(written) == score
        assert "e" not in written
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), mask * 255)
    assert lines[0].startswith("ulm_000001_000019_0_traffic_light.png 19 0.89999")


def test_cityscapes_files_are_not_overwritten_unasked(instances, tmp_path):
    instances.save_cityscapes(tmp_path, "a_0_1", LABELS)
    with pytest.raises(FileExistsError, match=r"a_0_1\.txt"):
        instances.save_cityscapes(tmp_path, "a_0_1", LABELS)
    none = instances.select(np.zeros(3, bool))
    none.save_cityscapes(tmp_path, "a_0_1", LABELS, overwrite=True)
    assert (tmp_path / "a_0_1.txt").read_text() == ""


@pytest.mark.parametrize("stem", ["", "a b", "a/b"])
def test_cityscapes_stem_is_a_plain_name(instances, tmp_path, stem):
    with pytest.raises(ValueError, match="stem"):
        instances.save_cityscapes(tmp_path, stem, LABELS)


def test_panoptic_entry_describes_the_map(panoptic):
    entry = json.loads(json.dumps(panoptic.to_coco(LABELS, 3, "3.png")))
    road, light = entry.pop("segments_info")
    assert entry == {"image_id": 3, "file_name": "3.png"}
    assert road == {
        "id": 300,
        "category_id": 7,
        "area": 4,
        "bbox": [2, 1, 3, 2],
        "iscrowd": 0,
        "isthing": 0,
        "score": 0.75,
    }
    assert (light["area"], light["bbox"], light["isthing"]) == (3, [3, 2, 3, 1], 1)


def test_panoptic_entry_needs_all_segments(panoptic):
    missing = PanopticSegmentation(segment_map=panoptic.segment_map, segments=panoptic.segments[:1])
    with pytest.raises(ValueError, match="70000"):
        missing.to_coco(LABELS, 3, "3.png")
    absent = PanopticSegmentation(
        segment_map=np.zeros((4, 6), np.int32), segments=panoptic.segments
    )
    with pytest.raises(ValueError, match="70000"):
        absent.to_coco(LABELS, 3, "3.png")


def test_panoptic_colors_give_the_ids_back(panoptic):
    rgb = panoptic.to_rgb().astype(int)
    np.testing.assert_array_equal(rgb @ [1, 256, 65536], panoptic.segment_map)
    too_large = PanopticSegmentation(segment_map=np.full((2, 2), 2**24), segments=())
    with pytest.raises(ValueError, match="2\\*\\*24"):
        too_large.to_rgb()
