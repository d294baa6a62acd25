"""One model that is loaded once, as a function from the bytes of a picture to an answer."""

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from m2f_jax.app.answers import answer_of
from m2f_jax.config import Task
from m2f_jax.images import decode_image
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.labels import Label
from m2f_jax.streets import street_scene

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
TOP_K = 100  # instances, as COCO counts them; one number, so that one program is compiled
PREVIEW_SIDE = 1600  # pixels
EXAMPLES = 3
EXAMPLE_SEED = 11


@dataclass(frozen=True)
class Request:
    """What a request asks to be done with its picture.

    Attributes:
        task: "instance", "panoptic" or "semantic".
        threshold: the least score of an instance, 0 to 1.
        top_k: the most instances, 1 to `TOP_K`.
    """

    task: str
    threshold: float | int = 0.5
    top_k: int = TOP_K

    def __post_init__(self):
        if self.task not in TASKS:
            raise ValueError(f"the task is instance, panoptic or semantic, not {self.task!r:.40}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold is a number from 0 to 1, not {self.threshold}")
        if not 1 <= self.top_k <= TOP_K:
            raise ValueError(f"top_k is a whole number from 1 to {TOP_K}, not {self.top_k}")


@dataclass(frozen=True)
class Engine:
    """A model that is ready to run, and what the page says of it.

    Attributes:
        source: where the model is from.
        segmenter: the model.
        labels: the model's classes.
        task: what the model was trained for.
        note: what users should know about the model; may be empty.
    """

    source: str
    segmenter: Any
    labels: Sequence[Label]
    task: Task
    note: str = ""

    def segment(self, data: bytes, name: str, request: Request) -> dict[str, Any]:
        """Returns the answer to a picture, as `answer_of` has it, with its file name and task.

        Raises:
            ValueError: the picture can't be read, or is too large.
        """
        pixels, _ = decode_image(data, name)
        found = self.segmenter(pixels, request.task, top_k=TOP_K, threshold=request.threshold)
        if isinstance(found, InstanceSegmentation):
            found = found.select(np.arange(len(found)) < request.top_k)
        answer = answer_of(pixels, found, self.labels)
        return {"file_name": name, "task": request.task, **answer}


def preview(data: bytes, name: str) -> bytes:
    """Returns a picture as a JPEG of at most `PREVIEW_SIDE` pixels a side.

    Raises:
        ValueError: the picture can't be read, or is too large.
    """
    image = Image.fromarray(decode_image(data, name)[0])
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return jpeg(image)


@functools.lru_cache(EXAMPLES)
def example(index: int) -> bytes:
    """Returns the JPEG of one of the `EXAMPLES`: streets that this package draws."""
    return jpeg(Image.fromarray(street_scene(EXAMPLE_SEED, index, (512, 1024)).image))


def jpeg(image: Image.Image) -> bytes:
    """Returns an RGB picture as the bytes of a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
