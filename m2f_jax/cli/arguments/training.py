"""The options of `m2f train`, and of `m2f streets`, which draws data for it."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from m2f_jax.bounds import POSITIVE, Between
from m2f_jax.cli.arguments.values import (
    DtypeName,
    InvalidObjects,
    MaxPixels,
    Processes,
    Revision,
    SharedWork,
    TaskName,
)
from m2f_jax.pixel_limit import MAX_PIXELS


@dataclass(frozen=True)
class Train:
    """Train a model, with checkpoints, evaluations and a log.

    Writes into the output folder: model/ (for m2f predict --model; with best/ the one of the best
    score beside it), log.jsonl and tensorboard/ (losses, scores, pictures), and checkpoints/.
    Interrupted in any way, it goes on where it stopped when run again.
    """

    data: Annotated[str, tyro.conf.arg(metavar="ROOT")]
    """The folder of a published data set (Cityscapes, COCO, ADE20K, Mapillary Vistas, COCO-Stuff),
    or your own: train/ and val/, each with images/ and annotations.json (COCO's format) or with
    images/, ids/ and labels.json."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """The output folder."""
    recipe: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE]")] = None
    """A published model's name (such as swin-tiny-coco-instance, for its architecture and the
    authors' settings), "streets" for the small model that comes with this package, or a .json file
    of your own (a train.json holds one under "settings"). Without one, the model that --from names
    is fine-tuned: its architecture, 2000 steps of 4 crops of 512x512."""
    from_: Annotated[str | None, tyro.conf.arg(name="from", metavar="SOURCE")] = None
    """Start from a trained model: a folder, a Hugging Face id or an authors' .pkl file; where the
    classes differ, their head starts afresh. Or from a Swin or ResNet trained on ImageNet, such as
    microsoft/swin-tiny-patch4-window7-224 or R-50.pkl; then everything but the backbone does."""
    task: TaskName | None = None
    """What to learn; by default what the recipe's or the trained model is for."""
    invalid: InvalidObjects = "refuse"
    """Objects of COCO's format that can't be used, such as outlines without points: list them and
    stop, or skip them and say how many there are."""
    steps: Annotated[int | None, Between(1, 10**9)] = None
    """The number of steps; the learning rate's schedule is stretched to it."""
    batch_size: Annotated[int | None, Between(1, 1_000_000)] = None
    """Images in a step, of all devices together."""
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    """Height and width of the crops, in pixels."""
    learning_rate: Annotated[float | None, POSITIVE] = None
    """The learning rate at the start."""
    dtype: DtypeName = None
    accumulate: Annotated[int | None, Between(1, 4096)] = None
    """Compute each batch in so many parts, one after another, for less memory."""
    remat: bool = False
    """Compute inner values again for the gradient, for much less memory."""
    shard_parameters: bool = False
    """Spread parameters and the optimizer's state over all devices."""
    average_decay: Annotated[float | None, Between(0, 1 - 1e-9)] = None
    """The decay of a moving average of the parameters, such as 0.9998; 0 for no average."""
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    """The seed of fresh parameters, of the order of the images and of their changes."""
    log_every: Annotated[int, Between(1)] = 50
    """Steps from one line of the log to the next."""
    save_every: Annotated[int, Between(1)] = 1000
    """Steps from one checkpoint to the next."""
    evaluate_every: Annotated[int | None, Between(1)] = None
    """Steps from one evaluation to the next; by default 5000, and without a RECIPE a quarter of
    all."""
    evaluate_images: Annotated[int | None, Between(1)] = None
    """Evaluate on the first so many images only."""
    keep_empty_images: bool = False
    """Learn from images without an object, too; the authors leave them out."""
    trust_data: bool = False
    """Don't read all pictures before the first step. Reading them finds damaged ones, and a second
    start reads only what has changed."""
    threads: Annotated[int, Between(1, 1024)] = 8
    """How many images are read at the same time; by each worker, if there are any."""
    workers: Annotated[int, Between(0, 1024)] = 0
    """Read images in so many processes; 0 for threads alone. One for every core but one is best
    where a GPU would wait for images."""
    max_pixels: MaxPixels = MAX_PIXELS
    """Refuse larger images and maps of ids."""
    revision: Revision = None
    processes: SharedWork = field(default_factory=Processes)


@dataclass(frozen=True)
class Streets:
    """Draw street scenes with exact labels into a Cityscapes tree, to try things out on.

    Interrupted, it goes on where it stopped when run again.
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The root of the tree: a new or empty folder, or one that this command has written."""
    images: Annotated[int, Between(1, 10_000_000), tyro.conf.arg(metavar="N")]
    """How many images the split has in the end."""
    size: Annotated[str, tyro.conf.arg(metavar="HxW")] = "512x1024"
    """Height and width in pixels, at least 128x256."""
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    """The seed of the streets; take another one for each split."""
    split: Literal["train", "val", "test"] = "val"
    """The split of the data set."""
    workers: Annotated[int | None, Between(0, 1024)] = None
    """Draw in so many processes; by default one for every core."""
