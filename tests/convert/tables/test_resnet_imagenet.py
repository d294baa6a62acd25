"""Training starts from ResNets of detectron2, torchvision, timm and Hugging Face."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from m2f_jax.convert import open_backbone
from m2f_jax.convert.files.formats import StoredTensor, write_safetensors
from m2f_jax.convert.tables.backbones.resnet import write
from m2f_jax.convert.tables.imagenet import resnet as resnet_imagenet
from m2f_jax.convert.tables.rules import expand, saved_shapes

from m2f_jax.config import ResNetConfig
from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.presets import preset
from tests.conftest import MICRO

SMALL = dataclasses.replace(MICRO, backbone=ResNetConfig(depths=(1, 2, 1, 1), stem_dim=4, dim=8))
R50 = preset("resnet50-coco-instance").config
TABLES = {
    "detectron2": resnet_imagenet.DETECTRON2,
    "torchvision": resnet_imagenet.TORCHVISION,
    "huggingface": resnet_imagenet.HUGGING_FACE,
}
CLASSES = {
    "detectron2": "stem.fc.weight",
    "torchvision": "fc.weight",
    "huggingface": "classifier.1.weight",
}


def shapes_of(config, table):
    shapes = {x: y for x, y in parameter_shapes(config).items() if x.startswith("backbone.")}
    theirs = {}
    for rule in expand(table.rules, shapes):
        theirs |= saved_shapes(rule, shapes)
    return theirs


def drawn(origin):
    """Tensors of a small ResNet under the names of an origin, with what else it stores."""
    rng = np.random.default_rng(0)
    table = TABLES[origin]
    arrays = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes_of(SMALL, table).items()
    }
    if origin != "detectron2":
        norms = [x.removesuffix("running_var") for x in arrays if x.endswith("running_var")]
        arrays |= {f"{norm}num_batches_tracked": np.array(7) for norm in norms}
    return arrays | {CLASSES[origin]: np.zeros((5, 64), np.float32)}


def write_file(folder, origin, arrays):
    if origin != "huggingface":
        path = folder / "r.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "matching_heuristics": True}))
        return path
    stored = {f"resnet.{x}" if x not in CLASSES.values() else x: y for x, y in arrays.items()}
    write_safetensors(
        folder / "model.safetensors", {x: StoredTensor.of(y) for x, y in stored.items()}, {}
    )
    values = write(SMALL.backbone)
    del values["out_features"]
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("origin", TABLES)
def test_every_tensor_arrives(origin, tmp_path):
    arrays = drawn(origin)
    found = open_backbone(write_file(tmp_path, origin, arrays), SMALL)
    assert set(found) == {x for x in parameter_shapes(SMALL) if x.startswith("backbone.")}
    first = {"detectron2": "stem.conv1", "torchvision": "conv1"}.get(
        origin, "embedder.embedder.convolution"
    )
    kernel = found["backbone.stem.convs.0.conv.kernel"].read()
    np.testing.assert_array_equal(kernel, arrays[f"{first}.weight"].transpose(2, 3, 1, 0))
    values = [x.read() for x in found.values()]
    assert sum(x.size for x in values) == sum(
        x.size for name, x in arrays.items() if x.ndim and name not in CLASSES.values()
    )


@pytest.mark.parametrize("origin", TABLES)
def test_another_size_is_refused_by_name(origin, tmp_path):
    source = write_file(tmp_path, origin, drawn(origin))
    with pytest.raises(ValueError, match="a ResNet of the size that is needed"):
        open_backbone(source, R50)
    with pytest.raises(ValueError, match="is a ResNet, and the model's backbone is of the type"):
        open_backbone(source, MICRO)


def test_names_of_torchvision():
    names = shapes_of(R50, resnet_imagenet.TORCHVISION)
    assert len(names) == 53 * 5
    assert names["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert names["layer1.0.downsample.1.running_var"] == (256,)
    assert names["bn1.running_mean"] == (64,)


@pytest.mark.torch
def test_hugging_faces_own_resnet(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(**write(SMALL.backbone))
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    assert len(open_backbone(tmp_path, SMALL)) == len(shapes_of(SMALL, TABLES["huggingface"]))
