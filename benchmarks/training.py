"""Trains this Mask2Former beside transformers': same weights, same batches, same machine.

    python benchmarks/training.py --preset swin-tiny-coco-instance --size 384 384 --batch 2

A model of ours with fresh weights is saved, converted to Hugging Face's format, and both sides
train it with AdamW as the authors set it up, without drop path. Losses are computed at random
points, so transformers runs twice: with points of its own, which is timed, and with ours, which
must give our losses. README.md beside this file says what each row means.

Every run is a process of its own, so its memory is its own and a device has one at a time; every
framework is imported where it is used.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from inference import (
    MULTIPLE,
    check_installed,
    choose_device,
    limit_threads,
    peak_host_bytes,
    processor_name,
    quieten_transformers,
    say,
)

from m2f_jax.config import Mask2FormerConfig, from_plain

OURS, THEIRS, OUR_POINTS = "m2f-jax", "transformers", "transformers, our points"
TOLERANCE = 1e-3  # of the first loss, relative, in float32 with the same points
WARM_UP = 2  # steps that aren't timed
SEED = 0
MOST_OBJECTS = 12  # in an image
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of RGB values of 0 to 255


class Settings(NamedTuple):
    """What is trained, and how; all of it plain, so that it can be handed to other processes."""

    size: tuple[int, int]
    batch: int
    steps: int
    dtype: str
    device: str
    tf32: bool
    threads: int
    loss: dict[str, Any]  # LossConfig
    optimizer: dict[str, Any]  # OptimizerConfig


class Scenes(NamedTuple):
    """A batch as `TrainBatch` has it, in numpy: images, and which regions make up which object."""

    pixel_values: np.ndarray
    regions: np.ndarray
    members: np.ndarray
    labels: np.ndarray
    valid: np.ndarray


class Run(NamedTuple):
    """What came of training in a process of its own."""

    losses: list[float]  # of each step
    seconds: list[float]  # of each step
    peak_mib: float
    device: str


class Row(NamedTuple):
    """One line of the table: what each side took, and ours divided by theirs."""

    name: str
    ours: float
    theirs: float
    ratio: float


def draw_batch(settings: Settings, num_classes: int, step: int) -> Scenes:
    """Ellipses in the colours of their classes under noise; later ones hide earlier ones."""
    rng = np.random.default_rng([SEED, step])
    colours = np.random.default_rng(SEED).integers(0, 256, (num_classes, 3))
    height, width = settings.size
    y, x = np.mgrid[:height, :width]
    shape = settings.batch, MOST_OBJECTS
    counts = rng.integers(MOST_OBJECTS // 3, MOST_OBJECTS, settings.batch, endpoint=True)
    valid = np.arange(MOST_OBJECTS) < counts[:, None]
    labels = np.where(valid, rng.integers(num_classes, size=shape), 0).astype(np.int32)
    regions = np.zeros((settings.batch, height, width), np.uint16)
    images = rng.normal(128, 30, (*regions.shape, 3))
    for image, k in zip(*np.nonzero(valid), strict=True):
        centre = rng.uniform(size=2) * settings.size
        half = np.exp(rng.uniform(np.log(0.05), np.log(0.4), 2)) * settings.size
        inside = ((y - centre[0]) / half[0]) ** 2 + ((x - centre[1]) / half[1]) ** 2 < 1
        regions[image, inside] = k + 1
        images[image, inside] = colours[labels[image, k]]
    images += rng.normal(scale=8, size=images.shape)
    members = np.eye(MOST_OBJECTS, MOST_OBJECTS + 1, 1, dtype=bool) & valid[..., None]
    return Scenes(images.clip(0, 255).astype(np.uint8), regions, members, labels, valid)


# The sides. Each loads the model in a folder; `place` puts a batch where `train_on` wants it, and
# `train_on` takes one step, waits for it and returns the loss.


class Ours:
    """This project."""

    def __init__(self, folder: Path, settings: Settings):
        import jax

        from m2f_jax.pretrained import start_from
        from m2f_jax.training import LossConfig, OptimizerConfig, TrainConfig, TrainState

        if settings.tf32:
            jax.config.update("jax_default_matmul_precision", "tensorfloat32")
        config = Mask2FormerConfig.load(folder / "config.json")
        model, _ = start_from(folder, config, SEED, settings.dtype)
        train = TrainConfig(
            model=config,
            steps=settings.steps,
            loss=from_plain(LossConfig, settings.loss, "loss"),
            optimizer=from_plain(OptimizerConfig, settings.optimizer, "optimizer"),
            dtype="bfloat16" if settings.dtype == "bfloat16" else "float32",
        )
        self.state = TrainState.of(model, train)
        self.key = jax.random.key(SEED)
        self.device = jax.devices()[0]

    def place(self, scenes: Scenes) -> Any:
        import jax

        from m2f_jax.training import TrainBatch

        left_out = np.zeros(len(scenes.labels), np.int32)
        return jax.block_until_ready(
            self.state.layout.put_batch(TrainBatch(*scenes, left_out=left_out))
        )

    def train_on(self, batch: Any) -> float:
        import jax

        from m2f_jax.training import train_step

        self.state, metrics = jax.block_until_ready(train_step(self.state, batch, self.key))
        return float(metrics.loss)

    def device_name(self) -> str:
        return self.device.device_kind

    def peak_device_bytes(self) -> int:
        return (self.device.memory_stats() or {})["peak_bytes_in_use"]


class Transformers:
    """Hugging Face's Mask2Former on PyTorch; with bfloat16, under autocast."""

    def __init__(self, folder: Path, settings: Settings):
        import torch
        from transformers import Mask2FormerForUniversalSegmentation

        quieten_transformers()
        torch.manual_seed(SEED)
        torch.set_num_threads(settings.threads)
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32
        torch.backends.cudnn.allow_tf32 = settings.tf32
        self.settings = settings
        shared = ("class_weight", "mask_weight", "dice_weight", "no_object_weight")
        shared += ("oversample_ratio", "importance_sample_ratio")
        model: Any = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder / "huggingface",
            train_num_points=settings.loss["num_points"],
            **{name: settings.loss[name] for name in shared},
        )
        self.model = model.train().to(settings.device)
        self.optimizer, self.schedule = make_torch_optimizer(self.model, settings)

    def place(self, scenes: Scenes) -> Any:
        """Their arguments: images, and the masks and classes of each, in float32."""
        import torch

        device = self.settings.device
        pixels = (
            scenes.pixel_values.astype(np.float32) - np.asarray(MEAN, np.float32)
        ) / np.asarray(STD, np.float32)
        masks = [
            torch.from_numpy(members[:, regions][valid].astype(np.float32)).to(device)
            for members, regions, valid in zip(
                scenes.members, scenes.regions, scenes.valid, strict=True
            )
        ]
        labels = [
            torch.from_numpy(labels[valid].astype(np.int64)).to(device)
            for labels, valid in zip(scenes.labels, scenes.valid, strict=True)
        ]
        images = torch.from_numpy(np.moveaxis(pixels, -1, 1).copy()).to(device)
        self.wait()
        return {"pixel_values": images, "mask_labels": masks, "class_labels": labels}

    def wait(self):
        """Until the device is done."""
        import torch

        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    def train_on(self, batch: Any) -> float:
        import torch

        settings = self.settings
        low = settings.dtype == "bfloat16"
        with torch.autocast(settings.device, torch.bfloat16, enabled=low):
            loss = self.model(**batch).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.optimizer["clip_norm"])
        self.optimizer.step()
        self.schedule.step()
        self.wait()
        return loss.item()

    def device_name(self) -> str:
        import torch

        return torch.cuda.get_device_name() if self.settings.device == "cuda" else "cpu"

    def peak_device_bytes(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated()


def make_torch_optimizer(model: Any, settings: Settings) -> tuple[Any, Any]:
    """AdamW and its schedule, in groups as in the authors' train_net.py."""
    import torch

    norms = torch.nn.LayerNorm, torch.nn.GroupNorm
    groups = {key: [] for key in itertools.product((False, True), repeat=2)}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            in_backbone = ".pixel_level_module.encoder." in f".{name}"
            undecayed = isinstance(module, (*norms, torch.nn.Embedding))
            decays = not undecayed and "relative_position_bias_table" not in name
            groups[in_backbone, decays].append(parameter)
    config = settings.optimizer
    optimizer = torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": config["learning_rate"] * (config["backbone_multiplier"] ** in_backbone),
                "weight_decay": config["weight_decay"] * decays,
            }
            for (in_backbone, decays), parameters in groups.items()
        ],
        fused=settings.device == "cuda",
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 - step / settings.steps) ** config["power"]
    )
    return optimizer, schedule


class TransformersOurPoints(Transformers):
    """The same, but its losses are computed at the points that ours draws."""

    def __init__(self, folder: Path, settings: Settings):
        super().__init__(folder, settings)
        self.step = 0
        self.indices: Any = None  # of the last matching: of each image, queries and their objects
        self.loss_masks = self.model.criterion.loss_masks
        self.model.criterion.loss_masks = self.note_indices

    def note_indices(self, logits: Any, masks: Any, indices: Any, num_masks: Any) -> Any:
        """In place of their `loss_masks`: what it will ask points for is noted first."""
        self.indices = indices
        return self.loss_masks(logits, masks, indices, num_masks)

    def train_on(self, batch: Any) -> float:
        import torch

        points = self.draw_points()

        def rand(*shape: int, device: Any) -> Any:
            drawn = next(points)
            if drawn.shape != shape:
                raise SystemExit(f"transformers asked for points {shape}, not {drawn.shape}")
            return torch.from_numpy(drawn).to(device)

        with mock.patch.object(torch, "rand", rand):
            loss = super().train_on(batch)
        self.step += 1
        return loss

    def draw_points(self) -> Iterator[np.ndarray]:
        """The points of `train_step`, drawn as there, in the order in which theirs draws its own.

        The last prediction comes first, then the others. Each needs points for matching, of one
        image after another, and then candidates and extra points of the matched queries.
        """
        import jax

        from m2f_jax.training import LossConfig
        from m2f_jax.training.losses import BLOCK

        config = from_plain(LossConfig, self.settings.loss, "loss")
        layers, images = self.model.config.decoder_layers, self.settings.batch
        _, key = jax.random.split(jax.random.fold_in(jax.random.key(SEED), self.step))
        matching_key, mask_key = jax.random.split(key)
        matching = jax.random.uniform(matching_key, (layers, images, config.num_points, 2))
        num_extra = config.num_points - config.num_uncertain
        shape = layers, images, BLOCK, config.num_candidates + num_extra, 2
        blocks = [
            np.asarray(jax.random.uniform(jax.random.fold_in(mask_key, block), shape))
            for block in range(math.ceil(MOST_OBJECTS / BLOCK))
        ]
        of_objects = np.concatenate(blocks, axis=2)
        for layer in (layers - 1, *range(layers - 1)):
            for image in range(images):
                yield np.array(matching[layer, image][None])
            rows = np.concatenate(
                [
                    of_objects[layer, image, objects.numpy()]
                    for image, (_, objects) in enumerate(self.indices)
                ]
            )
            yield rows[:, : config.num_candidates].copy()
            yield rows[:, config.num_candidates :].copy()


SIDES = {OURS: Ours, THEIRS: Transformers, OUR_POINTS: TransformersOurPoints}


# In a process of its own


def save_weights(folder: Path):
    """The architecture in the folder with fresh weights: as ours there, as theirs below it."""
    from m2f_jax.convert import convert

    from m2f_jax.training import initialize

    initialize(Mask2FormerConfig.load(folder / "config.json"), SEED).save_pretrained(folder)
    convert(folder, folder / "huggingface", to="huggingface")


def train(folder: Path, settings: Settings, name: str) -> Run:
    """All steps of one side."""
    num_classes = Mask2FormerConfig.load(folder / "config.json").num_classes
    side = SIDES[name](folder, settings)
    losses, seconds = [], []
    for step in range(settings.steps):
        batch = side.place(draw_batch(settings, num_classes, step))
        start = time.perf_counter()
        losses.append(side.train_on(batch))
        seconds.append(time.perf_counter() - start)
        say(f"step {step + 1} of {settings.steps}: loss {losses[-1]:.3f}, {seconds[-1]:.2f} s")
    peak = side.peak_device_bytes() if settings.device == "cuda" else peak_host_bytes()
    return Run(losses, seconds, peak / 2**20, side.device_name())


def in_this_process(folder: Path, task: str) -> Any:
    """One of the tasks that `in_a_process` starts."""
    settings = Settings(**json.loads((folder / "settings.json").read_text()))
    if task == "device":
        return choose_device(settings.device or None)
    if task == "weights":
        return save_weights(folder)
    return train(folder, settings, task)._asdict()


def in_a_process(folder: Path, task: str, *, jax_on: str) -> Any:
    """What a task returns in a fresh process, in which JAX sees this device."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # else all memory counts as used
    if jax_on == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [sys.executable, __file__, "--alone", task, "--folder", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{task} failed in a process of its own; see above")
    return json.loads(done.stdout.splitlines()[-1])


# What is compared and printed


def relative_difference(ours: float, theirs: float) -> float:
    """How far our loss is from theirs."""
    return abs(ours - theirs) / abs(theirs)


def compare_losses(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """Relative differences of the losses, with the same points and with different ones."""
    ours = runs[OURS][0].losses
    differences = {
        name: [relative_difference(*pair) for pair in zip(ours, runs[name][0].losses, strict=True)]
        for name in (OUR_POINTS, THEIRS)
    }
    return {
        "same points, step 1": differences[OUR_POINTS][0],
        "same points, largest": max(differences[OUR_POINTS]),
        "own points, step 1": differences[THEIRS][0],
        "own points, largest": max(differences[THEIRS]),
    }


def compare_costs(runs: Mapping[str, Sequence[Run]]) -> list[Row]:
    """Time and memory of both sides, of all repeats."""

    def median_step(runs: Sequence[Run]) -> float:
        return statistics.median(itertools.chain(*(run.seconds[WARM_UP:] for run in runs)))

    def median_first_step(runs: Sequence[Run]) -> float:
        return statistics.median(run.seconds[0] for run in runs)

    def median_peak(runs: Sequence[Run]) -> float:
        return statistics.median(run.peak_mib for run in runs)

    figures = {
        "step, s": median_step,
        "first step, s": median_first_step,
        "peak memory, MiB": median_peak,
    }
    rows = []
    for name, figure in figures.items():
        ours, theirs = figure(runs[OURS]), figure(runs[THEIRS])
        rows.append(Row(name, ours, theirs, ours / theirs))
    return rows


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(report: Mapping[str, Any], runs: Mapping[str, Sequence[Run]], rows: Sequence[Row]):
    """Both tables, and below them how far losses are apart and what was measured with."""
    sides = list(SIDES)
    losses = zip(*(runs[name][0].losses for name in sides), strict=True)
    lines = [
        [str(step), *(f"{loss:.4f}" for loss in line)] for step, line in enumerate(losses, start=1)
    ]
    print(markdown(["loss of step", *sides], lines))
    lines = [
        [row.name, f"{row.ours:,.3f}", f"{row.theirs:,.3f}", f"{row.ratio:.2f}"] for row in rows
    ]
    print(markdown(["", OURS, THEIRS, "ours / theirs"], lines))
    for name in ("agreement", "machine", "versions", "settings"):
        shown = (
            f"{key} {value:.1e}" if name == "agreement" else f"{key} {value}"
            for key, value in report[name].items()
            if not isinstance(value, dict)
        )
        print(f"{name}: {', '.join(shown)}")


def describe(settings: Settings, device: str) -> dict[str, dict[str, Any]]:
    """Machine, versions and settings."""
    machine = {"CPU": processor_name(), "processors": os.cpu_count(), "system": platform.system()}
    if settings.device == "cuda":
        machine["GPU"] = device
    if hasattr(os, "getloadavg"):
        machine["load"] = round(os.getloadavg()[0], 1)
    packages = ("m2f-jax", "jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")
    shown = settings._asdict()
    products = "TensorFloat-32" if shown.pop("tf32") else "full precision"
    return {
        "machine": machine,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "settings": shown | {"float32 products": products},
    }


# From the command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--preset", default="swin-tiny-coco-instance", help='a published model, or "streets"'
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(384, 384),
        metavar=("HEIGHT", "WIDTH"),
        help=f"of the images: multiples of {MULTIPLE} (default: 384 384)",
    )
    parser.add_argument("--batch", type=int, default=2, help="images in a step")
    parser.add_argument("--steps", type=int, default=12, help="of each training")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="by default cuda, where both sides have it"
    )
    parser.add_argument("--tf32", action="store_true", help="for float32 products on a GPU")
    parser.add_argument("--threads", type=int, help="on the CPU, of both sides; by default all")
    parser.add_argument("--repeats", type=int, default=1, help="trainings of each side, in turns")
    parser.add_argument("--json", metavar="FILE", help="also write everything here")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # the task of this process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of weights and settings
    options = parser.parse_args(arguments)
    if any(side < MULTIPLE or side % MULTIPLE for side in options.size):
        parser.error(f"--size: multiples of {MULTIPLE}, not {options.size[0]} {options.size[1]}")
    if min(options.batch, options.repeats) < 1:
        parser.error("--batch and --repeats: 1 or more")
    if options.steps <= WARM_UP:
        parser.error(f"--steps: more than {WARM_UP}, which aren't timed")
    return options


def settle(options: argparse.Namespace) -> tuple[Mask2FormerConfig, Settings]:
    """The architecture, without drop path, and the settings; the device as it was asked for."""
    from m2f_jax.training import OptimizerConfig
    from m2f_jax.training.recipes import recipe

    try:
        train = recipe(options.preset).train
    except ValueError as error:
        raise SystemExit(f"--preset: {error}") from error
    backbone = dataclasses.replace(train.model.backbone, drop_path_rate=0.0)
    return dataclasses.replace(train.model, backbone=backbone), Settings(
        size=tuple(options.size),
        batch=options.batch,
        steps=options.steps,
        dtype=options.dtype,
        device=options.device or "",
        tf32=options.tf32,
        threads=limit_threads(options.threads),
        loss=dataclasses.asdict(train.loss),
        optimizer=dataclasses.asdict(OptimizerConfig()),
    )


def main(arguments: Sequence[str] | None = None):
    """Trains with both sides and prints how they compare."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.alone:
        # What libraries print goes to stderr: stdout is for the result.
        with contextlib.redirect_stdout(sys.stderr):
            result = in_this_process(options.folder, options.alone)
        print(json.dumps(result))
        return
    check_installed((THEIRS,))
    config, settings = settle(options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config.save(folder / "config.json")

        def keep(settings: Settings):
            (folder / "settings.json").write_text(json.dumps(settings._asdict()))

        keep(settings)
        settings = settings._replace(device=in_a_process(folder, "device", jax_on=settings.device))
        keep(settings)
        say(f"fresh weights for {options.preset}")
        in_a_process(folder, "weights", jax_on="cpu")
        runs: dict[str, list[Run]] = {name: [] for name in SIDES}
        for repeat in range(options.repeats):
            for name in SIDES if repeat == 0 else (OURS, THEIRS):
                say(f"{name}, training {repeat + 1} of {options.repeats}")
                jax_on = settings.device if name == OURS else "cpu"
                runs[name].append(Run(**in_a_process(folder, name, jax_on=jax_on)))
    rows = compare_costs(runs)
    report = {
        "preset": options.preset,
        **describe(settings, runs[THEIRS][0].device),
        "agreement": compare_losses(runs),
        "rows": [row._asdict() for row in rows],
        "runs": {name: [run._asdict() for run in some] for name, some in runs.items()},
    }
    show(report, runs, rows)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    exact = settings.dtype == "float32" and not settings.tf32
    apart = report["agreement"]["same points, step 1"]
    if exact and not apart <= TOLERANCE:
        raise SystemExit(f"with the same points the first losses differ by {apart:.1e}")


if __name__ == "__main__":
    main()
