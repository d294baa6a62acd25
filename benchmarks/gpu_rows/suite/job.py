"""The job of a row of gpu.py, and its figures."""

import statistics
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from measuring.timing import Call, timed
from peers.weights import HUGGING_FACE

from gpu_rows import WEIGHTS
from m2f_jax.config import (
    Mask2FormerConfig,
    ModelConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)
from m2f_jax.labels import numbered
from m2f_jax.presets import preset
from m2f_jax.sizes import Size

COMPLETE = "complete"  # a file in the folder of the weights, once all is written
ROUNDS = 9
ROUND_SECONDS = 0.15
SLOW = 0.5  # seconds of a call that isn't repeated as often
REPOSITORY = Path(__file__).parents[3]

Figures = list[dict[str, Any]]
Measuring = Generator[None, None, tuple[Figures, dict[str, Any]]]


class Scale(NamedTuple):
    """The sizes of models, images, batches and training."""

    config: ModelConfig
    size: Size  # of the image that most rows are about
    batch: int  # of such images, in the row of batches
    small: Size  # of the images of the large batch
    small_batch: int
    train_size: Size
    train_batch: int
    train_steps: int
    problems: int  # of matching
    streets: int  # drawn to train the model in the package on
    street_size: str


FULL = Scale(  # the published Swin-L for instances of Cityscapes
    config=preset("swin-large-cityscapes-instance").config,
    size=(1024, 2048),
    batch=4,
    small=(384, 384),
    small_batch=16,
    train_size=(512, 1024),
    train_batch=4,
    train_steps=12,
    problems=40,
    streets=1600,
    street_size="256x512",
)
TOY = Scale(  # a model that compiles as fast as possible; its figures mean nothing
    config=Mask2FormerConfig(
        labels=numbered(2),
        task="instance",
        backbone=SwinConfig(
            embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4, mlp_ratio=1.0
        ),
        pixel_decoder=PixelDecoderConfig(dim=32, mask_dim=8, num_layers=1, num_heads=2, ffn_dim=8),
        decoder=TransformerDecoderConfig(
            dim=32, num_layers=1, num_heads=2, ffn_dim=8, num_queries=5
        ),
    ),
    size=(64, 96),
    batch=2,
    small=(32, 32),
    small_batch=2,
    train_size=(64, 64),
    train_batch=2,
    train_steps=4,
    problems=2,
    streets=2,
    street_size="128x256",
)


@dataclass
class Job:
    """The settings of a row.

    Attributes:
        toy: whether sizes are those of `TOY`.
        device: "cuda" or "cpu".
        out: the suite's folder.
        seconds_left: until the suite ends; known once the row has the device.
    """

    toy: bool
    device: str
    out: Path
    seconds_left: float = 0.0

    @property
    def scale(self) -> Scale:
        """The sizes of everything."""
        return TOY if self.toy else FULL

    def jax_device(self) -> Any:
        """Returns the first device of the kind that is measured."""
        import jax

        return jax.devices(self.device)[0]

    def weights(self) -> Path:
        """Returns the folder of the weights as Hugging Face has them, once they are written."""
        return self.our_weights() / HUGGING_FACE

    def our_weights(self) -> Path:
        """Returns the folder of the same weights as ours."""
        while not (self.out / WEIGHTS / COMPLETE).exists():
            time.sleep(0.2)
        return self.out / WEIGHTS


def figure(what: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    """Returns a line of the table."""
    return {"what": what, "value": value, "unit": unit, **more}


def median(what: str, milliseconds: list[float], **more: Any) -> dict[str, Any]:
    """Returns the figure of several measurements."""
    spread = {"least": min(milliseconds), "most": max(milliseconds)}
    return figure(what, statistics.median(milliseconds), "ms", **spread, **more)


def time_call(what: str, call: Call) -> dict[str, Any]:
    """Returns the median of some rounds, in each of which calls are begun one after another.

    The figure is in milliseconds of one call, with the rounds' least and most, and with the
    milliseconds of a call that is waited for by itself.
    """
    slow = timed(call)[1] > SLOW
    single = statistics.median(timed(call)[1] for _ in range(2 if slow else 5))
    calls, rounds = max(1, int(ROUND_SECONDS / single)), []
    for _ in range(3 if slow else ROUNDS):
        start = time.perf_counter()
        last = call.begin()
        for _ in range(calls - 1):
            last = call.begin()  # earlier results are given up, or they would fill the memory
        call.wait(last)
        rounds.append(1000 * (time.perf_counter() - start) / calls)
    return median(what, rounds, single=1000 * single, calls=calls)


def describe_size(batch: int, size: Size) -> str:
    """Returns a batch and a size for people."""
    return f"{batch} x {size[0]} x {size[1]}"
