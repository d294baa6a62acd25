"""Options of several commands: their types, bounds, help texts and defaults."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from m2f_jax.bounds import Between
from m2f_jax.pixel_limit import MOST_PIXELS

SIDE = Between(1, 65_536)
BATCH = Between(1, 4096)
DEFAULT_MODEL = "streets"

TaskName = Literal["instance", "panoptic", "semantic"]
MaxPixels = Annotated[int, Between(1, MOST_PIXELS), tyro.conf.arg(metavar="N")]
LabelsName = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME|FILE",
        help="The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, "
        "ade20k, ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name "
        "per line or, in .json, COCO's categories.",
    ),
]
Revision = Annotated[str | None, tyro.conf.arg(help="Branch, tag or commit of a Hugging Face id.")]
DtypeName = Annotated[
    Literal["float32", "bfloat16"] | None,
    tyro.conf.arg(
        help="The dtype of the computation; by default bfloat16 on a GPU or TPU and float32 on a "
        "CPU."
    ),
]
InvalidObjects = Literal["refuse", "skip"]


@dataclass(frozen=True)
class Processes:
    """Several processes that share the work, perhaps on several machines."""

    distributed: bool = False
    """This is one of several processes, each started with this command: on SLURM, Open MPI,
    Kubernetes and Cloud TPU they find each other, elsewhere give the three arguments below."""
    coordinator_address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """The address at which the others reach process 0."""
    num_processes: Annotated[int | None, Between(1, 1_000_000), tyro.conf.arg(metavar="N")] = None
    """The number of processes."""
    process_id: Annotated[int | None, Between(0, 1_000_000), tyro.conf.arg(metavar="I")] = None
    """The number of this process, from 0."""


SharedWork = Annotated[Processes, tyro.conf.OmitArgPrefixes]


def parse_size(text: str) -> tuple[int, int]:
    """Returns height and width from "512x1024".

    Raises:
        ValueError: it is something else, or too large.
    """
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*x\s*([0-9]{1,9})\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"--size is height x width in pixels, such as 512x1024; got {text!r}")
    height, width = map(int, match.groups())
    if height not in SIDE or width not in SIDE:
        raise ValueError(f"--size must have sides {SIDE} pixels, not {text}")
    return height, width


def parse_batch(text: str) -> int | Literal["dynamic"]:
    """Returns the number of images at a time, or "dynamic" for any number of them.

    Raises:
        ValueError: it is something else, or too large.
    """
    if text == "dynamic":
        return text
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) not in BATCH:
        raise ValueError(f"--batch must be a number {BATCH}, or dynamic; got {text!r}")
    return int(text)
