"""The options of the commands that convert, export, describe and publish models."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from m2f_jax.bounds import Between
from m2f_jax.cli.arguments.values import LabelsName, Revision, TaskName


@dataclass(frozen=True)
class Convert:
    """Convert a checkpoint: to this package's format, or back to Hugging Face's."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A Hugging Face folder or id, an authors' .pkl file, or a folder of this package."""
    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder to write into."""
    to: Literal["m2f_jax", "huggingface"] = "m2f_jax"
    """The format to write."""
    task: TaskName | None = None
    """What the model was trained for, where the source doesn't say."""
    num_heads: Annotated[int | None, Between(1, 1024)] = None
    """Attention heads of an authors' file, which doesn't say; 8 by default."""
    kind: Literal["mask2former", "video_mask2former"] | None = None
    """Whether an authors' Mask2Former is of images or of videos, which its file doesn't say; by
    default what a published name tells, else of images."""
    labels: LabelsName = None
    revision: Revision = None
    overwrite: bool = False
    """Replace a model that is in the folder."""


@dataclass(frozen=True)
class Export:
    """Write a model as one compiled function of an image, which runs without the model's code.

    Writes FILE (StableHLO, from a uint8 image of one size to its segmentation) and FILE.safetensors
    (the weights), for m2f predict --model FILE or for jax.export.deserialize. If FILE ends with
    .onnx, it is an ONNX file instead, for ONNX Runtime, OpenVINO and m2f predict.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A folder, a Hugging Face id or an authors' .pkl file."""
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The file to write, such as streets.m2f or streets.onnx."""
    size: Annotated[str, tyro.conf.arg(metavar="HxW")]
    """Height and width of the images, in pixels."""
    task: TaskName | None = None
    """What the file computes; by default what the model was trained for."""
    platforms: Annotated[str | None, tyro.conf.arg(metavar="NAME,...")] = None
    """The platforms to run on: some of cpu, cuda, rocm and tpu; by default cuda, tpu and cpu. This
    machine needn't have them. Not for .onnx."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The dtype of computation and weights; bfloat16 is for GPUs and TPUs. Not for .onnx."""
    network_only: bool = False
    """For .onnx: write the network alone, from normalised pixels to class and mask logits."""
    batch: Annotated[str | None, tyro.conf.arg(metavar="dynamic|N")] = None
    """For .onnx: images at a time, by default 1; dynamic for any number of them, or with
    --network-only another number."""
    license: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    """For .onnx: the licence of the weights for its metadata, such as cc-by-nc-4.0."""
    native: bool = False
    """Keep images at their own size instead of the one that the model was tested at."""
    labels: LabelsName = None
    revision: Revision = None
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True)
class Info:
    """Show a model's architecture, parameters, classes, input size and memory."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A folder, a Hugging Face id, an authors' .pkl file, or the name of a published model."""
    json: bool = False
    """Print JSON."""
    memory: Annotated[
        tuple[int, int] | None, Between(1, 65_536), tyro.conf.arg(metavar="HEIGHT WIDTH")
    ] = None
    """Also compile for one image of this size here, and show the memory that it takes."""
    labels: LabelsName = None
    revision: Revision = None


@dataclass(frozen=True)
class Models:
    """List the published models: scores, test size, parameters, and where they are."""

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORD...")] = ()
    """Only those that all of these words fit: of the backbone, the data set, the task, the
    architecture or the file, such as cityscapes instance resnet."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Push:
    """Publish a model on the Hugging Face hub, with a model card.

    The card tells what the model is, how it is used, its scores and how it was trained. Nothing in
    the repository is replaced unless you say so.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """The model: a folder such as model/ of m2f train, a Hugging Face id or an authors' .pkl."""
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
    """The repository to publish in. It is made if it isn't there."""
    format: Literal["both", "m2f_jax", "huggingface"] = "both"
    """The format of the files: this package's, that of transformers, or both: this package's at the
    top, and that of transformers in a folder of its name."""
    results: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """results.json of m2f eval --model SOURCE --out, whose scores the card tells; they must be of
    this model."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """train.json of m2f train; by default the one beside SOURCE, if there is one. Without the names
    of your folders, it is uploaded too."""
    license: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    """The hub's name of the licence, such as apache-2.0 or cc-by-nc-4.0. A model that started from
    published weights is bound by their licence."""
    datasets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID...")] = ()
    """The hub's names of the data sets that the model was trained on."""
    private: bool = False
    """Make a private repository."""
    overwrite: bool = False
    """Replace a model that is in the repository; it stays in the repository's history."""
    dry_run: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write what would be uploaded into a new or empty folder, and upload nothing."""
    labels: LabelsName = None
    revision: Revision = None
