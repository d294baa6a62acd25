"""The side of transformers in training.py."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring.timing import Call
from transformers import Mask2FormerForUniversalSegmentation

from m2f_jax.config import ModelConfig
from peers.on_torch import OnTorch
from peers.trainers.batches import Scenes, Settings
from peers.weights import HUGGING_FACE

MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of RGB values of 0 to 255
STD = np.array([58.395, 57.12, 57.375], np.float32)
SHARED = ("class_weight", "mask_weight", "dice_weight", "no_object_weight")
SHARED += ("oversample_ratio", "importance_sample_ratio")  # by both sides' names


class Trainer(OnTorch):
    """The model in a folder, and its optimizer; with bfloat16, under autocast."""

    def __init__(self, folder: Path, settings: Settings):
        super().__init__(settings.device, settings.threads, tf32=settings.tf32)
        torch.manual_seed(settings.seed)
        self.folder, self.settings = folder, settings
        model: Any = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder / HUGGING_FACE,
            train_num_points=settings.loss.num_points,
            **{name: getattr(settings.loss, name) for name in SHARED},
        )
        self.model = model.train().to(settings.device)
        self.optimizer, self.schedule = make_optimizer(self.model, settings)

    def place(self, scenes: Scenes) -> Any:
        """Returns their arguments: images, and the masks and classes of each."""
        images, regions, members, labels, valid = scenes
        normalised = (images.astype(np.float32) - MEAN) / STD
        masks = [
            of[:, map_][there] for of, map_, there in zip(members, regions, valid, strict=True)
        ]
        classes = [of[there] for of, there in zip(labels, valid, strict=True)]
        return self.wait(
            {
                "pixel_values": self.place_array(np.moveaxis(normalised, -1, 1), torch.float32),
                "mask_labels": [self.place_array(x, torch.float32) for x in masks],
                "class_labels": [self.place_array(x, torch.int64) for x in classes],
            }
        )

    def step(self, batch: Any) -> Call:
        """Returns a training step, which returns the loss."""
        settings = self.settings
        low = settings.dtype == "bfloat16"

        def begin() -> Any:
            with torch.autocast(settings.device, torch.bfloat16, enabled=low):
                loss = self.model(**batch).loss
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.optimizer.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            return loss

        return Call(begin, lambda loss: self.wait(loss).item())

    def save(self, folder: Path):
        """Writes the trained model in this project's format."""
        from m2f_jax.convert import convert

        config = ModelConfig.load(self.folder / "config.json")
        self.model.save_pretrained(folder / HUGGING_FACE)
        convert(folder / HUGGING_FACE, folder, task=config.task, labels=config.labels)


def make_optimizer(model: Any, settings: Settings) -> tuple[Any, Any]:
    """Returns AdamW and its schedule, in groups as in the authors' train_net.py."""
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
                "lr": config.learning_rate * (config.backbone_multiplier**in_backbone),
                "weight_decay": config.weight_decay * decays,
            }
            for (in_backbone, decays), parameters in groups.items()
        ],
        fused=settings.device == "cuda",
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 - step / settings.steps) ** config.power
    )
    return optimizer, schedule
