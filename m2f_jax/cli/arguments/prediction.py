"""The options of `m2f predict` and `m2f app`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from m2f_jax.bounds import Between
from m2f_jax.cli.arguments.values import (
    DEFAULT_MODEL,
    DtypeName,
    LabelsName,
    MaxPixels,
    Revision,
    TaskName,
)
from m2f_jax.pixel_limit import MAX_PIXELS


@dataclass(frozen=True)
class Predict:
    """Segment images: one overlay picture each, and the results as JSON. Or with --video a video.

    Writes into the output folder: overlays/, results/ (one JSON per image), predictions.json (all
    that results/ holds, in COCO's format for results or panoptic results), images.json (their ids,
    paths and sizes), categories.json, and for panoptic and semantic models PNG maps in maps/.

    Interrupted, it goes on where it stopped when run again. Results stay where image and model are
    the same; an image that has changed is done anew, and other images are added to those that are
    there. Another model or other settings are refused.

    For a video, it writes predictions.json (YouTubeVIS's format for results), videos.json,
    categories.json and annotated.mp4, or for a folder of frames PNGs in annotated/, with one color
    for an object through time. A long video is cut into clips that overlap, and what two clips show
    in the frames they share is joined where it agrees.
    """

    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")]
    """Image files, folders (searched through) and glob patterns. Results are named after the
    path from there on."""
    model: Annotated[str, tyro.conf.arg(metavar="SOURCE")] = DEFAULT_MODEL
    """A folder, a Hugging Face id such as facebook/mask2former-swin-large-cityscapes-instance, an
    authors' .pkl file or a file of m2f export; by default a small model in this package, which
    knows only streets as m2f streets draws them."""
    task: TaskName | None = None
    """What to predict; by default what the model was trained for."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "predictions"
    """The output folder."""
    threshold: Annotated[float, Between(0, 1)] = 0.5
    """The least score of an instance that is kept; with 0 the best --top-k are."""
    top_k: Annotated[int | None, Between(1, 1_000_000)] = None
    """The most instances of an image that are kept, also above 100; by default 100, or 10 of a
    video's clip."""
    boxes: bool = False
    """Give instances in predictions.json a bbox beside the mask, as some viewers want it.
    pycocotools then takes the boxes' areas for the instances', which changes APs, APm and APl."""
    annotations: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """A file in COCO's format, whose images have the ids to use in predictions.json. Images that
    aren't in it are left out. Without it, an image's id is its path without the ending, or where
    all files are called by twelve digits, as COCO's are, this number."""
    runtime: Literal["onnxruntime", "openvino"] | None = None
    """What runs a file of m2f export that ends with .onnx; by default onnxruntime."""
    dtype: DtypeName = None
    batch_size: Annotated[int, Between(1, 4096)] = 1
    """Images that each device computes at a time, where neighbours have the same size: more images
    a second if they are small, and more memory."""
    native: bool = False
    """Keep images at their own size instead of the one that the model was tested at."""
    tile: Annotated[int | None, Between(32, 65_536), tyro.conf.arg(metavar="N")] = None
    """Cut images into tiles of N x N pixels, segment each at its own size and put the results
    together: for images far larger than the model was tested at. For instance and semantic."""
    overlap: Annotated[int | None, Between(0, 32_768), tyro.conf.arg(metavar="N")] = None
    """Pixels that neighbouring tiles have in common at least, up to half of a tile; by default an
    eighth. Less than the width of an object may leave those on seams in parts."""
    ignore_exif: bool = False
    """Take pixels as they are stored, whichever side EXIF says is up."""
    max_pixels: MaxPixels = MAX_PIXELS
    """Refuse images of more pixels; a file of a few kilobytes may claim any number of them."""
    labels: LabelsName = None
    revision: Revision = None
    video: Annotated[str | None, tyro.conf.arg(metavar="FILE|FOLDER")] = None
    """Instead of images: a video file, or the folder of a video's frames, which are taken in the
    order of their names. Needs a model of videos."""
    clip_length: Annotated[int, Between(1, 100_000), tyro.conf.arg(metavar="N")] = 36
    """The most frames of a video that go through the network at once; memory grows with them."""
    clip_overlap: Annotated[int, Between(1, 100_000), tyro.conf.arg(metavar="N")] = 6
    """Frames that neighbouring clips have in common at least."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Segment on a Ray cluster, each of whose machines reaches the images, the model and the output
    folder by the same paths: auto, HOST:PORT or ray://HOST:PORT; or local, for the devices of this
    machine."""
    actors: Annotated[int | None, Between(1, 1_000_000), tyro.conf.arg(metavar="N")] = None
    """How many models Ray keeps ready; by default one for each GPU or TPU chip of the cluster, or
    else for each machine."""
    parquet: bool = False
    """With --ray, write Parquet files of rows with masks, classes, scores and boxes instead of
    pictures and JSON. Images and --out may then also be URIs (s3://, gs://)."""
    overwrite: bool = False
    """Remove the results that the output folder holds, and start anew."""


@dataclass(frozen=True)
class App:
    """Open a page in the browser to drop pictures on, and the same as an API.

    It prints its address, and runs until Ctrl-C. Pictures wait in line for the device. Nothing is
    written to the disk, and nothing leaves the machine.
    """

    model: Annotated[str, tyro.conf.arg(metavar="SOURCE")] = DEFAULT_MODEL
    """A folder, a Hugging Face id such as facebook/mask2former-swin-tiny-coco-instance or an
    authors' .pkl file; by default a small model in this package, which knows only streets as
    m2f streets draws them."""
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """The address to listen at. By default only this machine can reach it; 0.0.0.0 lets all others
    in, too, without a password."""
    port: Annotated[int | None, Between(1, 65_535), tyro.conf.arg(metavar="N")] = None
    """The port to listen at; by default the first that is free from 7860 on."""
    max_upload: Annotated[int, Between(1, 2048), tyro.conf.arg(metavar="MIB")] = 32
    """Refuse larger files, in MiB."""
    max_pixels: MaxPixels = MAX_PIXELS
    """Refuse images of more pixels; a file of a few kilobytes may claim any number of them."""
    dtype: DtypeName = None
    labels: LabelsName = None
    revision: Revision = None
