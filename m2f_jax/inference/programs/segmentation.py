"""What a task makes of the network's predictions, as a program."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from m2f_jax.config import Task
from m2f_jax.inference import postprocess
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.programs.compiling import Program
from m2f_jax.inference.programs.devices import Devices


def segmentation_program(
    devices: Devices,
    processor: ImageProcessor,
    task: Task,
    top_k: int,
    reduce: Callable[[Any, Any], Any] | None,
) -> Program:
    """Returns a task's program, which takes the images of a batch one after another.

    Its arguments are which classes are things with the least score, and then for each image its
    class logits, mask logits, plan of upsampling and what `reduce` takes beside the segmentation.

    Args:
        devices: where it runs.
        processor: its thresholds are constants of the program.
        task: instance, panoptic or semantic.
        top_k: the most instances to return.
        reduce: a function of each segmentation, whose result is returned instead.
    """

    def segment(shared, image):
        class_logits, mask_logits, plan, extra = image
        is_thing, limit = shared
        logits = class_logits, mask_logits
        if task == "instance":
            found = postprocess.instances(*logits, plan, limit, top_k=top_k)
        elif task == "panoptic":
            found = processor.compute_panoptic(*logits, plan, is_thing)
        else:
            found = processor.compute_semantic(*logits, plan)
        return found if reduce is None else reduce(found, extra)

    return devices.program(
        task,
        lambda shared, *images: jax.lax.map(functools.partial(segment, shared), images),
        about=repr((processor, top_k)) if reduce is None else None,
    )
