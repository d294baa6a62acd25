"""The rows of the authors' model zoos: files and scores of the published models."""

from collections.abc import Mapping
from typing import NamedTuple

from m2f_jax.config import Task
from m2f_jax.labels import Label, things
from m2f_jax.presets.definition import DATA_SETS


class ZooTable(NamedTuple):
    """Models of one data set, task and test size.

    Attributes:
        data_set: a key of `presets.DATA_SETS`.
        task: the task that they were trained for.
        test_size: shortest and longest edge of images in pixels, see `presets.Preset`.
        metrics: the names of the scores.
        rows: by backbone, the digits in the name of the authors' file and the scores in percent.
        ending: of the models' names; by default the data set and the task.
    """

    data_set: str
    task: Task
    test_size: tuple[int, int]
    metrics: tuple[str, ...]
    rows: Mapping[str, tuple[str, *tuple[float, ...]]]
    ending: str | None = None

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes of the models: things alone for the instance task."""
        labels = DATA_SETS[self.data_set].labels
        return things(labels) if self.task == "instance" else labels


MASK2FORMER: tuple[ZooTable, ...] = (
    ZooTable(
        "cityscapes",
        "instance",
        (1024, 2048),
        ("AP", "AP50"),
        {
            "resnet50": ("01a8ed", 37.4, 61.9),
            "resnet101": ("c2b8c8", 38.5, 63.9),
            "swin-tiny": ("6a63f8", 39.7, 66.9),
            "swin-small": ("974824", 41.8, 70.4),
            "swin-base-IN21k": ("7a3b6d", 42.0, 68.8),
            "swin-large": ("dfa862", 43.7, 71.4),
        },
    ),
    ZooTable(
        "cityscapes",
        "panoptic",
        (1024, 2048),
        ("PQ", "AP", "mIoU"),
        {
            "resnet50": ("4ab90c", 62.1, 37.3, 77.5),
            "resnet101": ("04d286", 62.4, 37.7, 78.6),
            "swin-tiny": ("ceba0f", 63.9, 39.1, 80.5),
            "swin-small": ("23efb7", 64.8, 40.7, 81.8),
            "swin-base-IN21k": ("fa840f", 66.1, 42.8, 82.7),
            "swin-large": ("064788", 66.6, 43.6, 82.9),
        },
    ),
    ZooTable(
        "cityscapes",
        "semantic",
        (1024, 2048),
        ("mIoU",),
        {
            "resnet50": ("cc1b1f", 79.4),
            "resnet101": ("257ce8", 80.1),
            "swin-tiny": ("2d58d4", 82.1),
            "swin-small": ("fa26ae", 82.6),
            "swin-base-IN21k": ("1c6b65", 83.3),
            "swin-large": ("17c1ee", 83.3),
        },
    ),
    ZooTable(
        "coco",
        "instance",
        (800, 1333),
        ("AP",),
        {
            "resnet50": ("3c8ec9", 43.7),
            "resnet101": ("eba159", 44.2),
            "swin-tiny": ("86143f", 45.0),
            "swin-small": ("1e7f22", 46.3),
            "swin-base": ("f6e0f6", 46.7),
            "swin-base-IN21k": ("83d103", 48.1),
            "swin-large": ("e5f453", 50.1),
        },
    ),
    ZooTable(
        "coco",
        "panoptic",
        (800, 1333),
        ("PQ", "AP", "mIoU"),
        {
            "resnet50": ("94dc52", 51.9, 41.7, 61.7),
            "resnet101": ("b807bd", 52.6, 42.6, 62.4),
            "swin-tiny": ("9fd0ae", 53.2, 43.3, 63.2),
            "swin-small": ("a407fd", 54.6, 44.7, 64.2),
            "swin-base": ("9d7f02", 55.1, 45.2, 65.1),
            "swin-base-IN21k": ("54b88a", 56.4, 46.3, 67.1),
            "swin-large": ("f07440", 57.8, 48.6, 67.4),
        },
    ),
    ZooTable(
        "ade",
        "instance",
        (640, 2560),
        ("AP",),
        {"resnet50": ("67e945", 26.4), "swin-large": ("92dae9", 34.9)},
    ),
    ZooTable(
        "ade",
        "panoptic",
        (640, 2560),
        ("PQ", "AP", "mIoU"),
        {"resnet50": ("5c90d4", 39.7, 26.5, 46.1), "swin-large": ("e0c58e", 48.1, 34.2, 54.5)},
    ),
    ZooTable(
        "ade",
        "semantic",
        (512, 2048),
        ("mIoU",),
        {
            "resnet50": ("500878", 47.2),
            "resnet101": ("0d68be", 47.8),
            "swin-tiny": ("5274a6", 47.7),
            "swin-small": ("011c6d", 51.3),
        },
    ),
    ZooTable(
        "ade",
        "semantic",
        (640, 2560),
        ("mIoU",),
        {
            "swin-base": ("503e96", 52.4),
            "swin-base-IN21k": ("7e47bf", 53.9),
            "swin-large": ("6b4a3a", 56.1),
        },
    ),
    ZooTable(
        "mapillary-vistas",
        "panoptic",
        (2048, 2048),
        ("PQ", "mIoU"),
        {"resnet50": ("4e9874", 36.3, 50.7), "swin-large": ("132c71", 45.5, 60.8)},
    ),
    ZooTable(
        "mapillary-vistas",
        "semantic",
        (2048, 2048),
        ("mIoU",),
        {"resnet50": ("6c66d0", 57.4), "swin-large": ("90ee2d", 63.2)},
    ),
)

MASKFORMER: tuple[ZooTable, ...] = (
    ZooTable(
        "ade",
        "semantic",
        (512, 2048),
        ("mIoU",),
        {
            "resnet50": ("d8dbeb", 44.5),
            "resnet101": ("1aeb94", 45.5),
            "resnet101c": ("b432ea", 46.0),
            "swin-tiny": ("8657a5", 46.7),
            "swin-small": ("528157", 49.8),
        },
        ending="ade",
    ),
    ZooTable(
        "ade",
        "semantic",
        (640, 2560),
        ("mIoU",),
        {"swin-base": ("45388b", 52.7), "swin-large": ("aefa3b", 54.1)},
        ending="ade",
    ),
    ZooTable(
        "ade",
        "panoptic",
        (640, 2560),
        ("PQ",),
        {"resnet50": ("7aa977", 34.7), "resnet101": ("0b3cc8", 35.7)},
        ending="ade-panoptic",
    ),
    ZooTable(
        "ade-full",
        "semantic",
        (512, 2048),
        ("mIoU",),
        {
            "resnet50": ("f4e3f6", 16.0),
            "resnet101": ("88df33", 16.8),
            "resnet101c": ("75d34e", 17.4),
        },
        ending="ade20k-full",
    ),
    ZooTable(
        "cityscapes",
        "semantic",
        (1024, 2048),
        ("mIoU",),
        {"resnet101": ("38c00c", 78.5), "resnet101c": ("4f8ff9", 79.7)},
        ending="cityscapes",
    ),
    ZooTable(
        "coco",
        "panoptic",
        (800, 1333),
        ("PQ",),
        {
            "resnet50": ("6f60dc", 46.5),
            "resnet101": ("57b049", 47.6),
            "swin-tiny": ("539394", 47.7),
            "swin-small": ("5bf6b1", 49.7),
            "swin-base": ("4b7f49", 51.8),
            "swin-large": ("7505c4", 52.7),
        },
        ending="coco",
    ),
    ZooTable(
        "coco-stuff",
        "semantic",
        (640, 2560),
        ("mIoU",),
        {
            "resnet50": ("cb03eb", 37.1),
            "resnet101": ("eb19bb", 38.1),
            "resnet101c": ("bffd25", 38.0),
        },
        ending="coco-stuff",
    ),
    ZooTable(
        "mapillary-vistas",
        "semantic",
        (2048, 2048),
        ("mIoU",),
        {"resnet50": ("f3fc73", 53.1)},
        ending="vistas",
    ),
)

VIDEO_MASK2FORMER: tuple[ZooTable, ...] = (
    ZooTable(
        "youtubevis-2019",
        "instance",
        (360, 1333),
        ("AP",),
        {
            "resnet50": ("34112b", 46.4),
            "resnet101": ("a34dca", 49.2),
        },
    ),
    ZooTable(
        "youtubevis-2019",
        "instance",
        (480, 1333),
        ("AP",),
        {
            "swin-tiny": ("26fffe", 51.5),
            "swin-small": ("4a5174", 54.3),
            "swin-base-IN21k": ("221a8a", 59.5),
            "swin-large": ("c5c739", 60.4),
        },
    ),
    ZooTable(
        "youtubevis-2021",
        "instance",
        (360, 1333),
        ("AP",),
        {
            "resnet50": ("b8aae2", 40.6),
            "resnet101": ("6efd7a", 42.4),
            "swin-large": ("4da256", 52.6),
        },
    ),
    ZooTable(
        "youtubevis-2021",
        "instance",
        (480, 1333),
        ("AP",),
        {
            "swin-tiny": ("965185", 45.9),
            "swin-small": ("0dec91", 48.6),
            "swin-base-IN21k": ("a9b925", 52.0),
        },
    ),
)
