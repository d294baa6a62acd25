"""Files in COCO's format, results, and run-length encodings."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from hypothesis import strategies as st
from m2f_jax.eval.metrics.coco.annotations import CocoAnnotations
from m2f_jax.eval.predictions.coco import find_coco_predictions
from m2f_jax.eval.predictions.coco_columns import columns_of, fields_of, read_fields
from m2f_jax.eval.predictions.coco_results import columns_one_by_one
from m2f_jax.eval.predictions.image_names import ImageNames
from m2f_jax.eval.tasks import evaluation_of

from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.coco_format.file import read_coco_file
from m2f_jax.masks.rle import check_counts, decode_rle, encode_rle
from tests.fuzz.targets import fuzz, refused_by_name

SIZE = (12, 16)
MASK = np.zeros(SIZE, bool)
MASK[2:9, 3:12] = True
RLE = encode_rle(MASK)
POLYGON = [3, 2, 12, 2, 12, 9, 3, 9]
OUTLINES = (RLE, [POLYGON], {"size": [12, 16], "counts": [38, 7, 5, 7, 135]})

TRUTH = {
    "images": [{"id": k + 1, "file_name": f"{k}.png", "height": 12, "width": 16} for k in range(3)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog", "isthing": 0}],
    "annotations": [
        {"id": k + 1, "image_id": k + 1, "category_id": k % 2 + 1, "area": 63, "iscrowd": k // 2}
        | {"segmentation": outline}
        for k, outline in enumerate(OUTLINES)
    ],
}
PANOPTIC = TRUTH | {
    "annotations": [
        {
            "image_id": k,
            "file_name": f"{k}.png",
            "segments_info": [{"id": 7, "category_id": 1, "iscrowd": 0}],
        }
        for k in (1, 2, 3)
    ]
}
RESULTS = [
    {"image_id": k + 1, "category_id": k % 2 + 1, "segmentation": outline, "score": 0.5}
    for k, outline in enumerate(OUTLINES)
]
PLAIN_RESULTS = [entry | {"segmentation": RLE} for entry in RESULTS]  # read as columns

NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.floats(),
    st.sampled_from([10**400, -(10**9), 10**9, 2**31, 2**63, 1e308, -1e30, 0.5, 170, 176]),
)
TEXTS = st.one_of(
    st.text(max_size=6),
    st.text("0123456789mnopN`b'\\", max_size=40),
    st.sampled_from(["", "0", "1", "../x", "/", "x" * 900, "\ud800", "0.png", "a\0"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda values: st.one_of(
        st.lists(values, max_size=9),
        st.lists(NUMBERS, min_size=6, max_size=12).map(lambda x: [x]),
        st.dictionaries(st.sampled_from(["id", "size", "counts", "name"]), values, max_size=3),
    ),
    max_leaves=12,
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where values are in a JSON value."""
    if not isinstance(value, dict | list):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


@st.composite
def spoilt(draw, *sound: Any) -> Any:
    """One of the values, with up to three others in it."""
    content = copy.deepcopy(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(0, 3))):
        if not (within := places(content)[1:]):
            break
        *way, last = draw(st.sampled_from(within))
        inner = content
        for key in way:
            inner = inner[key]
        if draw(st.booleans()):
            inner[last] = draw(VALUES)
        else:
            del inner[last]
    return content


def written(content: Any, path: Path) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@fuzz(spoilt(TRUTH, PANOPTIC))
def test_annotation_files(content, folder):
    path = written(content, folder / "truth.json")
    with refused_by_name(path):
        read_coco_file(path)
    file = None
    with refused_by_name(path):
        file = read_coco_file(path, "skip")
    if file is not None and file.panoptic is None:
        for found in CocoAnnotations.of(file).objects:
            height, width = found["segmentation"]["size"]
            assert 0 <= coco_mask.area(found["segmentation"]) <= height * width
            assert math.isfinite(found["area"])


@fuzz(st.one_of(spoilt(RESULTS, PLAIN_RESULTS), VALUES))
def test_results(content, folder):
    dataset = coco_dataset(written(TRUTH, folder / "truth.json"), folder, "instance")
    path = written(content, folder / "found.json")
    with refused_by_name(path):
        files = find_coco_predictions(path, "instance", dataset.images, dataset)
        evaluation = evaluation_of(dataset, "instance")
        metric = evaluation.empty()
        for index, item in enumerate(dataset.images):
            metric.merge(evaluation.count(index, None, files.read(item)))
        metric.result()


@fuzz(spoilt(PLAIN_RESULTS))
def test_results_read_as_columns(entries, folder):
    """What is read as columns is what is read entry by entry, which refuses nothing of it."""
    found = read_fields(written(entries, folder / "found.json"))
    fields = fields_of(entries)
    assert found is None or found == fields
    data = coco_dataset(written(TRUTH, folder / "truth.json"), folder, "instance")
    names, sizes = ImageNames(data.images), {x.name: SIZE for x in data.images[:2]}
    fast = None if fields is None else columns_of(fields, names.name_of, sizes)
    if fast is not None:
        slow = columns_one_by_one(folder, entries, names.name_of, sizes, scored=True)
        assert fast.names == slow.names
        for ours, expected in zip(fast.results, slow.results, strict=True):
            assert list(ours) == list(expected)


@fuzz(spoilt([{"id": k, "file_name": f"{k}.png", "height": 12, "width": 16} for k in range(3)]))
def test_lists_of_images(content, folder):
    dataset = coco_dataset(written(TRUTH, folder / "truth.json"), folder, "instance")
    path = written(content, folder / "images.json")
    written(RESULTS, folder / "predictions.json")
    with refused_by_name(folder):
        find_coco_predictions(folder, "instance", dataset.images, dataset)
    assert path.is_file()


@fuzz(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.text("0123456789:;<=>?@ABMNOP`abmno", max_size=12).map(str.encode),
            st.sampled_from([RLE["counts"].encode(), b"P6", b"o"]),
        ),
        max_size=6,
    )
)
def test_run_lengths(encoded, folder):
    """What passes is a mask of the size, the same to pycocotools; every other one is found."""
    counts, faults = check_counts(encoded, [SIZE] * len(encoded))
    for index, one in enumerate(counts):
        if index not in faults:
            rle: Any = {"size": list(SIZE), "counts": one}
            mask = decode_rle(one, SIZE)
            assert mask.shape == SIZE
            assert coco_mask.area(rle) == mask.sum()
            assert mask.any() == bool(coco_mask.iou([rle], [rle], [0])[0, 0])
            assert encode_rle(mask)["counts"] == one.decode()
    assert check_counts([*counts, RLE["counts"].encode()], [SIZE] * (len(counts) + 1))[0]
    assert folder.is_dir()
