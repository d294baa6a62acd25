"""Segments images and makes their tables, reading and counting beside the device's work."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from m2f_jax.datasets.published.ytvis import Video
from m2f_jax.inference.prefetching import run_pipeline
from m2f_jax.inference.processor import FOR_EVALUATION
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.video_segmenter import VideoSegmenter

from ..metrics.cityscapes.region_tables import Regions
from ..metrics.coco.lvis_ap import LvisMaskAP
from ..tasks import Evaluation, InstanceEvaluation
from ..tasks.instances_on_device import count_instances, measure_counts, region_input
from .tables import table_of


def measure_all(
    segmenter: Segmenter | VideoSegmenter,
    evaluation: Evaluation,
    indices: Sequence[int],
    tables: Path,
    on_device: bool | None = None,
) -> Iterator[tuple[int, Exception | None]]:
    """Makes the tables of images, and yields each image's index with None or its error.

    With `on_device`, the masks of instances are counted on the device, to the same bits. By default
    they are where this can be done and is faster.
    """
    if on_device is None:
        countable = (
            isinstance(evaluation, InstanceEvaluation)
            and evaluation.dataset.rules == "cityscapes"
            and not evaluation.boundary
        )
        # On a CPU, masks are counted faster where they are.
        on_device = countable and evaluation.export is None and jax.default_backend() != "cpu"

    def read(index: int) -> tuple[Any, Any]:
        item: Any = evaluation.dataset.images[index]
        source: Any = item.frames if isinstance(item, Video) else item.image
        prepared: Any = segmenter.prepare(source)
        truth = evaluation.truth(index)
        if on_device:
            assert isinstance(truth, Regions)
            extra = region_input(truth, prepared.canvas)
            prepared = dataclasses.replace(prepared, extra=extra)
        return prepared, truth

    def finish(index: int, truth: Any, segmentation: Any):
        if on_device:
            assert isinstance(evaluation, InstanceEvaluation)
            processor = segmenter.processor
            metric = measure_counts(evaluation, index, truth, segmentation, processor)
        else:
            metric = evaluation.measure(index, truth, segmentation)
        metric.save(table_of(tables, evaluation.dataset.images[index]))

    options: dict[str, Any] = {"threshold": FOR_EVALUATION}
    if on_device:
        options["reduce"] = count_instances
    if evaluation.task == "instance" and evaluation.dataset.rules == "lvis":
        options["top_k"] = LvisMaskAP.limit
    outcomes = run_pipeline(segmenter, evaluation.task, indices, read, finish, **options)
    for index, outcome in outcomes:
        yield index, outcome if isinstance(outcome, Exception) else None
