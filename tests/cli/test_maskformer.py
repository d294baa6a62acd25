"""A MaskFormer goes through the commands like any other model."""

import json

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from m2f_jax import MaskFormer, MaskFormerConfig
from m2f_jax.cli import main
from m2f_jax.config import (
    MaskFormerDecoderConfig,
    MaskFormerPixelDecoderConfig,
    ResNetConfig,
)
from m2f_jax.labels import CITYSCAPES
from m2f_jax.streets import street_scene

SIZE = (128, 256)
MICRO = MaskFormerConfig(
    labels=CITYSCAPES,
    task="panoptic",
    backbone=ResNetConfig(depths=(1, 1, 1, 1), stem_dim=4, dim=8),
    pixel_decoder=MaskFormerPixelDecoderConfig(
        dim=32, fpn_dim=32, mask_dim=8, encoder_layers=1, num_heads=2, ffn_dim=8
    ),
    decoder=MaskFormerDecoderConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=8, num_queries=5),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    MaskFormer(MICRO, rngs=nnx.Rngs(0)).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    changes = {"shortest_edge": None, "longest_edge": None, "object_mask_threshold": 0.05}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.fixture
def scene(tmp_path):
    """A Cityscapes tree of one image."""
    scene = street_scene(0, 0, SIZE)
    for folder, ending, array in (
        ("leftImg8bit", "leftImg8bit", scene.image),
        ("gtFine", "gtFine_instanceIds", scene.instance_ids.astype(np.uint16)),
        ("gtFine", "gtFine_labelIds", scene.label_ids),
    ):
        path = tmp_path / "city" / folder / "val" / "town" / f"town_000000_000000_{ending}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return tmp_path / "city"


def contents(folder):
    """The results in it, but for settings, which name the model."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name in ("maps", "overlays")
    }


def test_predict_export_and_eval_agree(model, scene, tmp_path):
    image = scene / "leftImg8bit/val/town/town_000000_000000_leftImg8bit.png"
    file = tmp_path / "model.m2f"
    height, width = SIZE
    assert main(["export", str(model), str(file), "--size", f"{height}x{width}"]) == 0
    predictions = [tmp_path / "of the model", tmp_path / "of the file"]
    for source, out in zip((model, file), predictions, strict=True):
        assert main(["predict", str(image), "--model", str(source), "--out", str(out)]) == 0
    one, other = map(contents, predictions)
    assert one == other
    [drawn] = predictions[0].glob("maps/*.png")
    assert np.asarray(Image.open(drawn)).any()

    results = []
    for option, source in (("--model", model), ("--predictions", predictions[0])):
        out = tmp_path / option.strip("-")
        command = ["eval", "cityscapes", str(scene), "--task", "panoptic", "--out", str(out)]
        assert main([*command, option, str(source)]) == 0
        results.append(json.loads((out / "results.json").read_text())["scores"])
    assert results[0] == results[1]
