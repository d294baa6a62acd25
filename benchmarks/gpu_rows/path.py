"""The whole path, from a uint8 image to masks or maps on the host."""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from measuring.images import draw_images
from measuring.timing import timed

from gpu_rows.suite.job import ROUNDS, Job, Measuring, figure, median
from gpu_rows.suite.kernel_times import kernel_times
from m2f_jax import ImageProcessor, Mask2Former, Segmenter

TASKS = ("instance", "panoptic", "semantic")
IMAGES = 16  # of a stream


def segment(segmenter: Segmenter, image: np.ndarray, task: Any, use: Callable):
    """Segments one image."""
    use(segmenter(image, task))


def segment_stream(segmenter: Segmenter, image: np.ndarray, task: Any, use: Callable):
    """Segments an image again and again."""
    for found in segmenter.stream([image] * IMAGES, task):
        use(found)


def measure(job: Job) -> Measuring:
    """Measures a Segmenter, from a uint8 image to full-size masks or maps on the host."""
    size, device = job.scale.size, job.jax_device()
    with jax.default_device(device):
        model = Mask2Former.from_pretrained(job.weights(), "bfloat16")
    processor = ImageProcessor(shortest_edge=min(size), longest_edge=max(size))
    segmenter = Segmenter(model, processor, [device])
    [image] = draw_images(1, size)
    for task in TASKS:
        segmenter(image, task)
    yield
    figures = []
    uses: dict[str, tuple[Any, Callable]] = {task: (task, lambda found: found) for task in TASKS}
    uses["instance, masks as arrays"] = (TASKS[0], lambda found: found.masks)
    for name, (task, use) in uses.items():
        one = [timed(segment, segmenter, image, task, use)[1] for _ in range(ROUNDS)]
        _, stream = timed(segment_stream, segmenter, image, task, use)
        figures += [
            median(f"one image, {name}", [1000 * x for x in one]),
            figure(f"an image of a stream, {name}", 1000 * stream / IMAGES, "ms"),
        ]
    rounds = []
    for _ in range(ROUNDS):
        prepared, reading = timed(segmenter.prepare, image)
        [pending], starting = timed(segmenter.submit, [prepared], TASKS[0])
        rounds.append((reading, starting, timed(pending.result)[1]))
    for name, seconds in zip(
        ("reading", "starting", "waiting"), zip(*rounds, strict=True), strict=True
    ):
        ms = 1000 * statistics.median(seconds)
        figures.append(figure(f"of one image, instance: {name}", ms, "ms"))
    found = kernel_times(lambda: list(segmenter.stream([image] * IMAGES, TASKS[0])), 1)
    figures += [
        figure(f"of an image of a stream, on the device: {name}", ms / IMAGES, "ms")
        for name, ms in found["ms by program"].items()
    ]
    return figures, {"kernels": found}
