"""Exports open in fiftyone, as docs/evaluate.md says."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from m2f_jax.eval.predictions.exports import export_folder, finish_export
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.masks.rle import decode_rle
from tests.eval.predictions.coco.case import MASKS, SIZE, content_of, write


class Fiftyone:
    """What docs/evaluate.md uses of fiftyone 1.x; it reads annotations by the same keys."""

    types = SimpleNamespace(COCODetectionDataset=object())

    def __init__(self):
        self.shown, self.labels = None, []
        self.Dataset = SimpleNamespace(from_dir=self.from_dir)
        self.utils = SimpleNamespace(coco=SimpleNamespace(add_coco_labels=self.add))

    def from_dir(self, *, dataset_type, data_path, labels_path, label_types, include_id):
        assert (dataset_type, label_types, include_id) == (
            self.types.COCODetectionDataset,
            "segmentations",
            True,
        )
        content = json.loads(Path(labels_path).read_text())
        assert all(Path(data_path, image["file_name"]).is_file() for image in content["images"])
        return {image["id"]: (image["width"], image["height"]) for image in content["images"]}

    def add(self, data, field, found, categories, *, label_type, coco_id_field):
        assert (field, label_type, coco_id_field) == ("m2f", "segmentations", "coco_id")
        names = {category["id"]: category["name"] for category in categories}
        for one in found:
            width, height = data[one["image_id"]]
            left, top, across, down = one["bbox"]
            assert one["segmentation"]["size"] == [height, width]
            mask = decode_rle(one["segmentation"]["counts"].encode(), (height, width))
            rows, columns = np.nonzero(mask)
            assert (left, top) == (columns.min(), rows.min())
            assert (left + across, top + down) == (columns.max() + 1, rows.max() + 1)
            assert isinstance(one["score"], float)
            self.labels.append((one["image_id"], names[one["category_id"]]))

    def launch_app(self, data):
        self.shown = data


def test_exports_open_in_fiftyone_as_the_documentation_says(tmp_path, monkeypatch):
    write(tmp_path / "instances_val2017.json", content_of())
    for file in ("0.png", "1.png", "2.png"):
        (tmp_path / "val2017").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "val2017" / file)
    data = coco_dataset(tmp_path / "instances_val2017.json", tmp_path / "val2017", "instance")
    place = export_folder(tmp_path / "export", data, "instance")
    evaluation = evaluation_of(data, "instance", export=place)
    for i, mask in enumerate(MASKS):
        found = InstanceSegmentation.from_masks(
            scores=np.array([0.9], np.float32),
            labels=np.array([i % 2], np.int32),
            masks=mask[None],
            queries=np.array([0], np.int32),
        )
        evaluation.measure(i, None, found)
    finish_export(place, data, "instance", 3)
    page = (Path(__file__).parents[4] / "docs" / "evaluate.md").read_text()
    program = page.split("## In fiftyone")[1].split("```python\n")[1].split("```")[0]
    fake = Fiftyone()
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    monkeypatch.setitem(sys.modules, "fiftyone.utils", fake.utils)
    monkeypatch.setitem(sys.modules, "fiftyone.utils.coco", fake.utils.coco)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/evaluate.md", "exec"), {})
    assert fake.labels == [(1, "cat"), (2, "dog"), (3, "cat")]
    assert fake.shown == dict.fromkeys((1, 2, 3), (96, 64))
