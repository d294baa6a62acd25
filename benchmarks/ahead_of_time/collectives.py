"""A training step compiled for all devices, and what these send one another."""

import math
import re
from typing import Any

import jax
import numpy as np

from m2f_jax.training import TrainBatch, TrainState, initialize, train_step
from m2f_jax.training.recipes import recipe

COLLECTIVE = re.compile(
    r"= (\(?[^=]*?) (all-reduce|all-gather|reduce-scatter|all-to-all)(-start)?\("
)
BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "u8": 1, "f16": 2, "s8": 1}


def training_step_on_all_devices() -> dict[str, Any]:
    """Returns the collectives of a compiled training step, and what each device keeps."""
    config, (height, width), segments = recipe("streets").train, (64, 128), 8
    state = TrainState.of(initialize(config.model, 0), config)
    count = len(jax.devices())
    batch = TrainBatch(
        np.zeros((count, height, width, 3), np.uint8),
        np.zeros((count, height, width), np.uint16),
        np.zeros((count, segments, segments + 1), bool),
        np.zeros((count, segments), np.int32),
        np.ones((count, segments), bool),
        left_out=np.zeros(count, np.int32),
    )
    compiled = train_step.lower(
        state, state.partitioner.put_batch(batch), jax.random.key(0)
    ).compile()
    program = re.sub(r"/\*.*?\*/", "", compiled.as_text() or "")
    found = COLLECTIVE.findall(program)
    sent = sum(bytes_of(shapes) for shapes, _, _ in found)
    memory: Any = compiled.memory_analysis()
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.parameters))
    return {
        "devices": count,
        "images": count,
        "collectives": ", ".join(
            f"{sum(kind == each for _, kind, _ in found)} {each}"
            for each in dict.fromkeys(kind for _, kind, _ in found)
        )
        or "none",
        "reduced MiB": sent / 2**20,
        "parameters MiB": held / 2**20,
        "temporaries MiB a device": memory.temp_size_in_bytes / 2**20,
    }


def bytes_of(shapes: str) -> int:
    """Returns the bytes of a result, an array or a tuple of them, as the compiler prints it."""
    return sum(
        BYTES[kind] * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    )
