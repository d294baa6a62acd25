"""The side of transformers in training.py, with losses at the points that ours draws."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import torch
from measuring.timing import Call

from m2f_jax.ops.sampling import random_points
from m2f_jax.training.losses.pairs import BLOCK
from peers.trainers import transformers
from peers.trainers.batches import MOST_OBJECTS, Settings


class Trainer(transformers.Trainer):
    """The model of transformers, whose losses are computed at the points that ours draws."""

    def __init__(self, folder: Path, settings: Settings):
        super().__init__(folder, settings)
        self.count = 0  # of steps
        self.indices: Any = None  # of the last matching: of each image, queries and their objects
        self.loss_masks = self.model.criterion.loss_masks
        self.model.criterion.loss_masks = self.note_indices

    def note_indices(self, logits: Any, masks: Any, indices: Any, num_masks: Any) -> Any:
        """Notes what theirs will ask points for, and computes its `loss_masks`."""
        self.indices = indices
        return self.loss_masks(logits, masks, indices, num_masks)

    def step(self, batch: Any) -> Call:
        """Returns a training step at the points that our next one draws."""
        step = super().step(batch)
        return Call(lambda: self.at_our_points(step.begin), step.wait)

    def at_our_points(self, begin: Callable[[], Any]) -> Any:
        """Begins a step in which theirs draws our points."""
        points = self.draw_points()

        def rand(*shape: int, device: Any) -> Any:
            drawn = next(points)
            if drawn.shape != shape:
                raise SystemExit(f"transformers asked for points {shape}, not {drawn.shape}")
            return torch.from_numpy(drawn).to(device)

        with mock.patch.object(torch, "rand", rand):
            loss = begin()
        self.count += 1
        return loss

    def draw_points(self) -> Iterator[np.ndarray]:
        """Yields the points that `train_step` draws, in the order in which theirs asks for its own.

        The last prediction comes first, then the others. Each needs points for matching, of one
        image after another, and then candidates and extra points of the matched queries.
        """
        config = self.settings.loss
        layers, images = self.model.config.decoder_layers, self.settings.batch
        _, key = jax.random.split(
            jax.random.fold_in(jax.random.key(self.settings.seed), self.count)
        )
        matching_key, mask_key = jax.random.split(key)
        matching = random_points(matching_key, (layers, images, config.num_points))
        num_extra = config.num_points - config.num_uncertain
        shape = layers, images, BLOCK, config.num_candidates + num_extra
        blocks = [
            np.asarray(random_points(jax.random.fold_in(mask_key, block), shape))
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
