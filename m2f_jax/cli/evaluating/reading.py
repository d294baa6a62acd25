"""Reads annotations in COCO's format, and large files of results at the same time."""

import logging
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from m2f_jax.cli.arguments import EvalCoco
from m2f_jax.cli.terminal.console import LOG_FORMAT
from m2f_jax.datasets.coco import CocoDataset, coco_dataset
from m2f_jax.eval.metrics.coco.annotations import CocoAnnotations
from m2f_jax.eval.predictions.coco_columns import Fields, read_fields
from m2f_jax.eval.tasks.annotations import coco_annotations, keep_annotations
from m2f_jax.files import without_collection

LARGE = 2**25  # bytes of results, which take longer to read than a process takes to start


def open_coco(command: EvalCoco) -> CocoDataset:
    """Reads the annotations.

    Raises:
        FileNotFoundError, ValueError: as `coco_dataset`, or they are of objects, and the task is
            panoptic.
    """
    path, task = Path(command.annotations), command.task
    images, maps = Path(command.images or ""), Path(command.maps) if command.maps else None
    dataset = coco_dataset(path, images, task, maps=maps, invalid=command.invalid)
    if task == "panoptic" and not dataset.panoptic:
        raise ValueError(f"{path} has objects; --task panoptic needs a panoptic file")
    return dataset


def read_instances(command: EvalCoco, results: Path) -> tuple[CocoDataset, Fields | None]:
    """Reads the annotations; and results that are large, while another process does so.

    Args:
        command: the options.
        results: the file of results, if there is one.

    Returns:
        The annotations; and of large results what `read_fields` returns.

    Raises:
        FileNotFoundError, ValueError: as `open_coco`.
    """
    if not results.is_file() or results.stat().st_size < LARGE:
        return open_coco(command), None
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=prepare)
    try:
        other = pool.submit(open_with_objects, command)
        fields = read_fields(results)
        dataset, objects = other.result()
    except BrokenProcessPool:  # it was killed, perhaps for the memory that two need
        return open_coco(command), None
    finally:
        pool.shutdown(wait=False)
    if objects is not None:
        keep_annotations(dataset, objects)
    return dataset, fields


def prepare():
    """Prepares the other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # this process ends both
    logging.basicConfig(format=LOG_FORMAT, level=logging.WARNING)


def open_with_objects(command: EvalCoco) -> tuple[CocoDataset, CocoAnnotations | None]:
    """Reads the annotations, and draws their polygons; None if they are PNGs."""
    with without_collection():
        dataset = open_coco(command)
        return dataset, None if dataset.panoptic else coco_annotations(dataset)
