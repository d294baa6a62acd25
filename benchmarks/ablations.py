"""Trains Mask2Former and what it changed about MaskFormer, each for as many steps, and scores both.

    python benchmarks/ablations.py --data streets --steps 2000
    python benchmarks/ablations.py --data streets --steps 200 --variants mask2former maskformer

Each variant is a recipe of `m2f train` that differs from that of the model in the package by fields
of its configuration: `masked` of the Transformer decoder, the kind of the pixel decoder, and
`num_points` of the losses. All see the same batches, and parameters that they share begin alike.
Each is trained in a process of its own, one after another, with nothing compiled before.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reporting import Grid, add_report_options, publish
from safetensors import safe_open

from m2f_jax.config import FPNPixelDecoderConfig, to_plain
from m2f_jax.training import TrainConfig
from m2f_jax.training.augment import RandomCrop
from m2f_jax.training.recipes import STREETS, Recipe

Change = Callable[[TrainConfig], TrainConfig]
CROP = STREETS.augmentation.size
NUM_POINTS = 512  # of the variants whose losses are taken at points
WINDOWS = 20  # of steps that are timed together; the first, with compilation, doesn't count
LEAST_STEPS = 3
M2F = (sys.executable, "-c", "import sys; from m2f_jax.cli import main; sys.exit(main())")


def without_masks(train: TrainConfig) -> TrainConfig:
    """Plain cross-attention in place of masked attention."""
    decoder = dataclasses.replace(train.model.decoder, masked=False)
    return dataclasses.replace(train, model=dataclasses.replace(train.model, decoder=decoder))


def with_fpn(train: TrainConfig) -> TrainConfig:
    """A feature pyramid network in place of deformable attention, of the same widths."""
    pixel = train.model.pixel_decoder
    fpn = FPNPixelDecoderConfig(dim=pixel.dim, mask_dim=pixel.mask_dim)
    return dataclasses.replace(train, model=dataclasses.replace(train.model, pixel_decoder=fpn))


def on_whole_masks(train: TrainConfig) -> TrainConfig:
    """Matching and losses on every pixel of the predicted masks in place of some points."""
    return dataclasses.replace(train, loss=dataclasses.replace(train.loss, num_points=None))


VARIANTS: Mapping[str, tuple[str, tuple[Change, ...]]] = {
    "mask2former": ("Mask2Former", ()),
    "plain-attention": ("without masked attention", (without_masks,)),
    "fpn": ("FPN pixel decoder", (with_fpn,)),
    "whole-masks": ("whole-mask loss", (on_whole_masks,)),
    "maskformer": (
        "all three (MaskFormer's design)",
        (without_masks, with_fpn, on_whole_masks),
    ),
}


def base_recipe(size: tuple[int, int]) -> Recipe:
    """What all variants share: the recipe of the model in the package, for crops of a size.

    Its losses are taken at points, as Mask2Former's, instead of on whole masks; and there is no
    average of parameters, which would take most of a short training to forget the first ones.
    """
    scale = size[0] / CROP[0]
    crop = STREETS.augmentation.crop
    assert isinstance(crop, RandomCrop)
    scaled = RandomCrop(
        shortest_edges=tuple(round(scale * edge) for edge in crop.shortest_edges),
        longest_edge=round(scale * crop.longest_edge),
    )
    loss = dataclasses.replace(STREETS.train.loss, num_points=NUM_POINTS)
    return dataclasses.replace(
        STREETS,
        train=dataclasses.replace(STREETS.train, loss=loss, average_decay=0.0),
        augmentation=dataclasses.replace(STREETS.augmentation, size=size, crop=scaled),
        test_size=(2 * size[0], 8 * size[0]),
    )


def changed(recipe: Recipe, changes: Sequence[Change]) -> Recipe:
    """A recipe after these changes."""
    for change in changes:
        recipe = dataclasses.replace(recipe, train=change(recipe.train))
    return recipe


def run(*command: str, **environment: str) -> str:
    """What a command prints in a process of its own; its progress is shown.

    Raises:
        SystemExit: the command failed.
    """
    done = subprocess.run(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"a process of its own failed, see above: {' '.join(command)}")
    return done.stdout


def find_streets(root: Path, options: argparse.Namespace):
    """Draws streets where there is nothing yet; an interrupted drawing goes on."""
    if root.exists():
        return
    unfinished = root.with_name(f"{root.name}.unfinished")
    height, width = options.size
    for seed, (split, images) in enumerate(zip(("train", "val"), options.images, strict=True), 1):
        size = f"{2 * height}x{2 * width}"
        settings = ("--images", str(images), "--size", size, "--seed", str(seed), "--split", split)
        run(*M2F, "streets", str(unfinished), *settings)
    unfinished.rename(root)


def train(recipe: Recipe, out: Path, options: argparse.Namespace) -> list[dict[str, float]]:
    """What `m2f train` writes into its log for this recipe."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "recipe.json"
    file.write_text(json.dumps(to_plain(recipe)))
    steps = str(options.steps)
    values = {
        "--data": options.data,
        "--out": out / "run",
        "--steps": steps,
        "--batch-size": options.batch_size,
        "--seed": options.seed,
        "--log-every": max(1, options.steps // WINDOWS),
        "--save-every": steps,
        "--evaluate-every": steps,
    }
    arguments = [str(x) for pair in values.items() for x in pair]
    with tempfile.TemporaryDirectory() as cache:
        run(*M2F, "train", str(file), *arguments, JAX_COMPILATION_CACHE_DIR=cache)
    return [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]


def score(model: Path, task: str, options: argparse.Namespace) -> dict[str, float]:
    """What `m2f eval` finds on the images that nothing was learnt from."""
    out = model.parent / task
    settings = ("--model", str(model), "--task", task, "--out", str(out))
    run(*M2F, "eval", "cityscapes", str(options.data), *settings)
    return json.loads((out / "results.json").read_text())["scores"]


def count_parameters(model: Path) -> int:
    """Numbers in a saved model."""
    with safe_open(model / "model.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    title, changes = VARIANTS[name]
    log = train(changed(base_recipe(options.size), changes), folder / name, options)
    windows = [entry for entry in log if "loss" in entry]
    rates = [entry["images/s"] / options.batch_size for entry in windows[1:]]
    model = folder / name / "run" / "model"
    [pq] = [entry["PQ"] for entry in log if "PQ" in entry]
    return {
        "variant": title,
        "PQ": pq,
        "AP": score(model, "instance", options)["AP"],
        "mIoU": score(model, "semantic", options)["mIoU"],
        "loss": windows[-1]["loss"],
        "steps/s": statistics.median(rates),
        "memory, GiB": max(entry["memory GiB"] for entry in windows),
        "parameters": count_parameters(model),
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="ROOT",
        help="a Cityscapes tree with train and val; where nothing is, streets are drawn into it",
    )
    parser.add_argument(
        "--images", type=int, nargs=2, default=(800, 100), metavar=("TRAIN", "VAL"), help="to draw"
    )
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--batch-size", type=int, default=STREETS.batch_size)
    parser.add_argument(
        "--size", type=int, nargs=2, default=CROP, metavar=("HEIGHT", "WIDTH"), help="of the crops"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all trainings")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where trainings stay, to be gone on with"
    )
    add_report_options(parser)
    options = parser.parse_args(arguments)
    if options.steps < LEAST_STEPS:
        parser.error(f"--steps: {LEAST_STEPS} or more, of which the first aren't timed")
    if min(options.batch_size, *options.images) < 1:
        parser.error("--batch-size and --images: 1 or more")
    options.size = tuple(options.size)
    return options


def main(arguments: Sequence[str] | None = None):
    """Trains and scores everything and prints one table."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    find_streets(options.data, options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        rows = [measure(name, folder, options) for name in options.variants]
    kind = "import jax; print(jax.devices()[0].device_kind)"
    device = run(sys.executable, "-c", kind).strip()
    height, width = options.size
    title = (
        f"{options.steps} steps of {options.batch_size} crops of {height} x {width} on {device}, "
        f"seed {options.seed}"
    )
    publish(options, [Grid.of(title, rows)], {}, {"settings": title, "rows": rows})


if __name__ == "__main__":
    main()
