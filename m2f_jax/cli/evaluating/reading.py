"""Reads annotations in COCO's format, and large files of results at the same time."""

import logging
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from m2f_jax.cli.arguments import EvalCoco
from m2f_jax.cli.terminal.console import LOG_FORMAT
from m2f_jax.cli.terminal.interruption import holding_interruptions
from m2f_jax.datasets.coco import CocoDataset, coco_dataset
from m2f_jax.eval.predictions.coco_columns import Fields, read_fields
from m2f_jax.eval.tasks.annotations import coco_annotations, keep_annotations
from m2f_jax.files import without_collection

LARGE = 2**26  # bytes of results, which take longer to read than a process takes to start


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
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    other = context.Process(target=send_annotations, args=(command, sender), daemon=True)
    with holding_interruptions():
        other.start()
    sender.close()
    try:
        fields = read_fields(results)
        answer = receiver.recv()
    except (EOFError, OSError):  # it was killed, perhaps for the memory that two need
        return open_coco(command), None
    finally:
        other.kill()
        other.join()
    if isinstance(answer, Exception):
        raise answer
    dataset, objects = answer
    if objects is not None:
        keep_annotations(dataset, objects)
    return dataset, fields


def send_annotations(command: EvalCoco, sender: Connection):
    """Sends the annotations and their objects as metrics take them; or the error that they are.

    Args:
        command: the options.
        sender: where to.
    """
    logging.basicConfig(format=LOG_FORMAT, level=logging.WARNING)
    try:
        with without_collection():
            dataset = open_coco(command)
            objects = None if dataset.panoptic else coco_annotations(dataset)
            sender.send((dataset, objects))
    except (OSError, ValueError) as error:
        sender.send(error)
