"""Trains Mask2Former, MaskFormer and what lies between, each for as many steps, and scores them.

    python benchmarks/ablations.py --data streets --steps 2000
    python benchmarks/ablations.py --data streets --steps 200 --variants mask2former maskformer

Each variant is a recipe of `m2f train` that differs from that of the model in the package by fields
of its configuration: `masked` of the Transformer decoder, the kind of the pixel decoder, and
`num_points` of the losses. "maskformer" is the first paper's own model of that size, with its
decoders and its loss, but without dropout and with the optimizer of the others. All see the same
batches, and parameters that they share begin alike.
Each is trained in a process of its own, one after another, with nothing compiled before.
"""

import dataclasses
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from measuring.machine import jax_device_kind
from measuring.options import Count, OnStreets, parse
from measuring.processes import in_a_process, m2f
from measuring.streets import CROP, base_recipe, find_streets, score
from measuring.tables import Table, publish
from safetensors import safe_open

from m2f_jax.bounds import Between
from m2f_jax.config import (
    FPNPixelDecoderConfig,
    MaskFormerConfig,
    MaskFormerDecoderConfig,
    MaskFormerPixelDecoderConfig,
    TransformerDecoderConfig,
)
from m2f_jax.files import write_json
from m2f_jax.plain import to_plain
from m2f_jax.training import TrainConfig
from m2f_jax.training.config import loss_of
from m2f_jax.training.recipes import STREETS, Recipe

Change = Callable[[TrainConfig], TrainConfig]
WINDOWS = 20  # of steps that are timed together; the first, with compilation, doesn't count
LEAST_STEPS = 3


def without_masks(train: TrainConfig) -> TrainConfig:
    """Returns the config with plain cross-attention in place of masked attention."""
    decoder = dataclasses.replace(train.model.decoder, masked=False)
    return dataclasses.replace(train, model=dataclasses.replace(train.model, decoder=decoder))


def with_fpn(train: TrainConfig) -> TrainConfig:
    """Returns the config with a feature pyramid network in place of deformable attention."""
    pixel = train.model.pixel_decoder
    fpn = FPNPixelDecoderConfig(dim=pixel.dim, mask_dim=pixel.mask_dim)
    return dataclasses.replace(train, model=dataclasses.replace(train.model, pixel_decoder=fpn))


def on_whole_masks(train: TrainConfig) -> TrainConfig:
    """Returns the config with matching and losses at every pixel in place of some points."""
    return dataclasses.replace(train, loss=dataclasses.replace(train.loss, num_points=None))


def as_maskformer(train: TrainConfig) -> TrainConfig:
    """Returns the config of a MaskFormer on the same backbone, with its own loss.

    Its decoders have the widths, heads, layers and queries of the others, and no dropout either.
    """
    model, pixel, decoder = train.model, train.model.pixel_decoder, train.model.decoder
    assert isinstance(decoder, TransformerDecoderConfig)
    config = MaskFormerConfig(
        labels=model.labels,
        task=model.task,
        backbone=model.backbone,
        pixel_decoder=MaskFormerPixelDecoderConfig(
            dim=pixel.dim, fpn_dim=pixel.dim, mask_dim=pixel.mask_dim
        ),
        decoder=MaskFormerDecoderConfig(
            dim=decoder.dim,
            num_layers=decoder.num_layers,
            num_heads=decoder.num_heads,
            ffn_dim=decoder.ffn_dim,
            num_queries=decoder.num_queries,
            dropout=0.0,
        ),
    )
    return dataclasses.replace(train, model=config, loss=loss_of(config))


Variant = Literal["mask2former", "plain-attention", "fpn", "whole-masks", "all-three", "maskformer"]
VARIANTS: Mapping[Variant, tuple[str, tuple[Change, ...]]] = {
    "mask2former": ("Mask2Former", ()),
    "plain-attention": ("without masked attention", (without_masks,)),
    "fpn": ("FPN pixel decoder", (with_fpn,)),
    "whole-masks": ("whole-mask loss", (on_whole_masks,)),
    "all-three": ("all three", (without_masks, with_fpn, on_whole_masks)),
    "maskformer": ("MaskFormer", (as_maskformer,)),
}


def changed(recipe: Recipe, changes: Sequence[Change]) -> Recipe:
    """Returns a recipe after these changes."""
    for change in changes:
        recipe = dataclasses.replace(recipe, train=change(recipe.train))
    return recipe


@dataclass(frozen=True, kw_only=True)
class Options(OnStreets):
    """Train Mask2Former, MaskFormer and what lies between for as many steps, and score them."""

    steps: Annotated[int, Between(LEAST_STEPS)] = 2000
    """Steps of each training run; the first ones aren't timed."""
    batch_size: Count = STREETS.batch_size
    """Crops in a step."""
    size: Annotated[tuple[int, int], Between(1), tyro.conf.arg(metavar="HEIGHT WIDTH")] = CROP
    """Height and width of the crops."""
    seed: int = 0
    """The seed of all training runs."""
    variants: tuple[Variant, ...] = get_args(Variant)
    """The variants to train."""


def train(recipe: Recipe, out: Path, options: Options) -> list[dict[str, float]]:
    """Returns what `m2f train` writes into its log for this recipe."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recipe.json", to_plain(recipe))
    values = {
        "--data": options.data,
        "--out": out / "run",
        "--steps": options.steps,
        "--batch-size": options.batch_size,
        "--seed": options.seed,
        "--log-every": max(1, options.steps // WINDOWS),
        "--save-every": options.steps,
        "--evaluate-every": options.steps,
    }
    arguments = [x for pair in values.items() for x in pair]
    with tempfile.TemporaryDirectory() as cache:
        m2f("train", out / "recipe.json", *arguments, JAX_COMPILATION_CACHE_DIR=cache)
    return [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]


def count_parameters(model: Path) -> int:
    """Returns how many numbers a saved model has."""
    with safe_open(model / "model.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def measure(name: Variant, folder: Path, options: Options) -> dict[str, Any]:
    """Returns one row of the table."""
    title, changes = VARIANTS[name]
    log = train(changed(base_recipe(options.size), changes), folder / name, options)
    windows = [entry for entry in log if "loss" in entry]
    rates = [entry["images/s"] / options.batch_size for entry in windows[1:]]
    model = folder / name / "run" / "model"
    [pq] = [entry["PQ"] for entry in log if "PQ" in entry]
    return {
        "variant": title,
        "PQ": pq,
        "AP": score(model, options.data, "instance")["AP"],
        "mIoU": score(model, options.data, "semantic")["mIoU"],
        "loss": windows[-1]["loss"],
        "steps/s": statistics.median(rates),
        "memory, GiB": max(entry["memory GiB"] for entry in windows),
        "parameters": count_parameters(model),
    }


def main(arguments: Sequence[str] | None = None):
    """Trains and scores everything and prints one table."""
    options = parse(Options, arguments)
    find_streets(options.data, options.images, options.size)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        rows = [measure(name, folder, options) for name in options.variants]
    device = in_a_process(jax_device_kind)
    height, width = options.size
    title = (
        f"{options.steps} steps of {options.batch_size} crops of {height} x {width} on {device}, "
        f"seed {options.seed}"
    )
    publish(options, [Table.of(title, rows)], {}, {"settings": title, "rows": rows})


if __name__ == "__main__":
    main()
