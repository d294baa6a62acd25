"""This project's side of training.py."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring.timing import Call

from m2f_jax.config import ModelConfig
from m2f_jax.pretrained import start_from
from m2f_jax.training import TrainBatch, TrainConfig, TrainState, train_step
from peers.on_jax import OnJax
from peers.trainers.batches import Scenes, Settings


class Trainer(OnJax):
    """The model in a folder, and its optimizer."""

    def __init__(self, folder: Path, settings: Settings):
        super().__init__(settings.device, "tensorfloat32" if settings.tf32 else None)
        config = ModelConfig.load(folder / "config.json")
        model, _ = start_from(folder, config, settings.seed, settings.dtype)
        train = TrainConfig(
            model=config,
            steps=settings.steps,
            loss=settings.loss,
            optimizer=settings.optimizer,
            dtype="bfloat16" if settings.dtype == "bfloat16" else "float32",
        )
        self.state = TrainState.of(model, train)
        self.key = jax.random.key(settings.seed)

    def place(self, scenes: Scenes) -> Any:
        """Returns a batch on the device."""
        left_out = np.zeros(len(scenes.labels), np.int32)
        return jax.block_until_ready(
            self.state.partitioner.put_batch(TrainBatch(*scenes, left_out=left_out))
        )

    def step(self, batch: Any) -> Call:
        """Returns a training step, which returns the loss."""

        def begin() -> Any:
            with jax.default_matmul_precision(self.precision):
                self.state, metrics = train_step(self.state, batch, self.key)
            return metrics.loss

        def wait(loss: Any) -> float:
            jax.block_until_ready(self.state)
            return float(loss)

        return Call(begin, wait)

    def save(self, folder: Path):
        """Writes the trained model in this project's format."""
        self.state.model().save_pretrained(folder)
