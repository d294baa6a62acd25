"""The sides of training.py: this project, transformers, and transformers with our points.

Each loads the model in a folder; `place` puts a batch where `train_on` wants it, and `train_on`
takes one step, waits for it and returns the loss: `begin` starts it, `finish` waits. Every
framework is imported where it is used: a process that trains one holds no other.
"""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from machine import quieten_transformers
from reporting import OURS

from m2f_jax.config import Mask2FormerConfig, from_plain

THEIRS, OUR_POINTS = "transformers", "transformers, our points"
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


def draw_batch(settings: Settings, num_classes: int, step: int) -> Scenes:
    """Ellipses in the colors of their classes under noise; later ones hide earlier ones."""
    rng = np.random.default_rng([SEED, step])
    colors = np.random.default_rng(SEED).integers(0, 256, (num_classes, 3))
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
        images[image, inside] = colors[labels[image, k]]
    images += rng.normal(scale=8, size=images.shape)
    members = np.eye(MOST_OBJECTS, MOST_OBJECTS + 1, 1, dtype=bool) & valid[..., None]
    return Scenes(images.clip(0, 255).astype(np.uint8), regions, members, labels, valid)


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
            self.state.partitioner.put_batch(TrainBatch(*scenes, left_out=left_out))
        )

    def begin(self, batch: Any) -> Any:
        from m2f_jax.training import train_step

        self.state, metrics = train_step(self.state, batch, self.key)
        return metrics.loss

    def finish(self, loss: Any) -> float:
        import jax

        jax.block_until_ready(self.state)
        return float(loss)

    def train_on(self, batch: Any) -> float:
        return self.finish(self.begin(batch))

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

    def begin(self, batch: Any) -> Any:
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
        return loss

    def finish(self, loss: Any) -> float:
        self.wait()
        return loss.item()

    def train_on(self, batch: Any) -> float:
        return self.finish(self.begin(batch))

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
        from m2f_jax.training.pairs import BLOCK

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
