"""A model beside the files that are written of it."""

import importlib.util
import json
from types import SimpleNamespace

import export
import numpy as np
import pytest
from flax import nnx

from m2f_jax import InstanceSegmentation, Segmenter
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.modeling.kinds import class_of

RUNTIMES = ("onnx", "onnxruntime", "openvino")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, RUNTIMES)), reason="needs the extra onnx"
)


@pytest.mark.usefixtures("in_this_process")
def test_a_model_and_its_files(micro, micro_config, tmp_path, monkeypatch):
    model = class_of(micro_config)(micro_config, rngs=nnx.Rngs(0))
    # All queries are sure enough, so that the map has segments.
    segmenter = Segmenter(model, ImageProcessor(object_mask_threshold=0.0, overlap_threshold=0.0))
    monkeypatch.setattr(Segmenter, "from_pretrained", lambda *_: segmenter)
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    monkeypatch.setattr(export, "street_scene", lambda *_: SimpleNamespace(image=noise))
    monkeypatch.setattr(export, "SHOWN", 0.0)
    path = tmp_path / "report.json"
    arguments = ["--preset", micro, "--size", 32, 64, "--network-size", 32, 64]
    arguments += ["--repeats", 1, "--no-transformers", "--json", path]
    export.main([str(x) for x in arguments])
    report = json.loads(path.read_text())
    *whole, network = report["rows"]
    columns = {export.OURS, *export.RUNTIMES}
    assert [x["name"] for x in whole] == [
        f"image to {result}, 32 x 64" for result in export.RESULTS.values()
    ]
    assert all(set(x["values"]) == {*columns, export.PROGRAM} for x in whole)
    assert set(network["values"]) == columns
    assert min(value for x in report["rows"] for value in x["values"].values()) > 0
    for task in export.RESULTS:
        for name in (export.PROGRAM, *list(export.RUNTIMES)[:2]):
            assert report["agreement"][f"{task}, {name}, equal pixels, %"] >= 99.9
    assert report["settings"]["network size"] == "32 x 64"


def test_pixels_belong_to_the_best_instance():
    masks = np.zeros((3, 2, 4), bool)
    masks[0, :, :2] = masks[1, :, 1:3] = masks[2] = True
    found = InstanceSegmentation.from_masks(
        scores=np.array([0.9, 0.8, 0.1], np.float32),
        labels=np.array([5, 6, 7]),
        queries=np.arange(3),
        masks=masks,
    )
    assert export.pixels_of(found).tolist() == [[5, 5, 6, -1]] * 2
