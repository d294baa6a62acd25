"""Mask2Former beside MaskFormer's design."""

import json
import math

import ablations
import pytest

from m2f_jax.config import (
    FPNPixelDecoderConfig,
    MaskFormerConfig,
    MaskFormerPixelDecoderConfig,
    PixelDecoderConfig,
)
from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.training.recipes import recipe


@pytest.mark.usefixtures("in_this_process", "micro_streets")
def test_ablations(tmp_path, capsys):
    data, out = tmp_path / "streets", tmp_path / "out"
    arguments = ["--data", data, "--out", out, "--variants", "maskformer", "--images", 3, 2]
    arguments += ["--steps", 4, "--batch-size", 1, "--size", 64, 128]
    report = tmp_path / "report.json"
    ablations.main([str(x) for x in (*arguments, "--json", report)])
    assert len(list(data.rglob("*_leftImg8bit.png"))) == 5
    trained = recipe(str(out / "maskformer" / "recipe.json")).train
    assert (
        trained
        == ablations.changed(
            ablations.base_recipe((64, 128)), ablations.VARIANTS["maskformer"][1]
        ).train
    )
    [row] = json.loads(report.read_text())["rows"]
    assert row["variant"] in capsys.readouterr().out
    assert row["variant"] == "MaskFormer"
    saved = MaskFormerConfig.load(out / "maskformer" / "run" / "model" / "config.json")
    assert row["parameters"] == sum(map(math.prod, parameter_shapes(saved).values()))
    assert min(row["steps/s"], row["memory, GiB"], row["loss"]) > 0
    assert all(0 <= row[name] <= 100 for name in ("PQ", "AP", "mIoU"))


def test_ablations_differ_in_what_they_say():
    base = ablations.base_recipe((128, 256))
    changed = {name: ablations.changed(base, x) for name, (_, x) in ablations.VARIANTS.items()}
    designs = {
        name: (
            getattr(recipe.train.model.decoder, "masked", None),
            type(recipe.train.model.pixel_decoder),
            recipe.train.loss.num_points,
            recipe.train.loss.pixels,
        )
        for name, recipe in changed.items()
    }
    assert designs == {
        "mask2former": (True, PixelDecoderConfig, 512, "predictions"),
        "plain-attention": (False, PixelDecoderConfig, 512, "predictions"),
        "fpn": (True, FPNPixelDecoderConfig, 512, "predictions"),
        "whole-masks": (True, PixelDecoderConfig, None, "predictions"),
        "all-three": (False, FPNPixelDecoderConfig, None, "predictions"),
        "maskformer": (None, MaskFormerPixelDecoderConfig, None, "images"),
    }
    assert changed["mask2former"] == base
    assert base.augmentation == ablations.STREETS.augmentation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "2"], "--steps must be 3 or more, not 2"),
        (["--batch-size", "0"], "--batch-size must be 1 or more, not 0"),
        (["--images", "5", "0"], r"--images must be 1 or more, not \(5, 0\)"),
    ],
)
def test_ablations_refuses(arguments, message):
    with pytest.raises(SystemExit, match=message):
        ablations.main(["--data", "streets", *arguments])
