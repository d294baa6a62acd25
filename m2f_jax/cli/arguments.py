"""What each subcommand takes; light to import, so that `m2f --help` is quick."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from m2f_jax.bounds import POSITIVE, Between
from m2f_jax.pixel_limit import MAX_PIXELS, MOST_PIXELS

SIDE = Between(1, 65_536)
DEFAULT_MODEL = "streets"

TaskName = Literal["instance", "panoptic", "semantic"]
MaxPixels = Annotated[int, Between(1, MOST_PIXELS), tyro.conf.arg(metavar="N")]
LabelsName = Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE")]


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
    """By default what the model was trained for."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "predictions"
    """The output folder."""
    threshold: Annotated[float, Between(0, 1)] = 0.5
    """The least score of an instance that is kept; 0 keeps the best --top-k."""
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
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the computation; by default bfloat16 on a GPU or TPU and float32 on a CPU."""
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
    """Refuse larger images, of which a file of a few kilobytes may claim any number."""
    labels: LabelsName = None
    """The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, ade20k,
    ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name per line or, in
    .json, COCO's categories."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
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
    """Where to listen. By default only this machine can reach it; 0.0.0.0 lets all others in, too,
    without a password."""
    port: Annotated[int | None, Between(1, 65_535), tyro.conf.arg(metavar="N")] = None
    """By default the first that is free from 7860 on."""
    max_upload: Annotated[int, Between(1, 2048), tyro.conf.arg(metavar="MIB")] = 32
    """Refuse larger files, in MiB."""
    max_pixels: MaxPixels = MAX_PIXELS
    """Refuse larger images, of which a file of a few kilobytes may claim any number."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the computation; by default bfloat16 on a GPU or TPU and float32 on a CPU."""
    labels: LabelsName = None
    """The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, ade20k,
    ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name per line or, in
    .json, COCO's categories."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""


@dataclass(frozen=True)
class Convert:
    """Convert a checkpoint: to this package's format, or back to Hugging Face's."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A Hugging Face folder or id, an authors' .pkl file, or a folder of this package."""
    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where to write."""
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
    """The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, ade20k,
    ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name per line or, in
    .json, COCO's categories."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
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
    """Where to write, such as streets.m2f or streets.onnx."""
    size: Annotated[str, tyro.conf.arg(metavar="HxW")]
    """Height and width of the images, in pixels."""
    task: TaskName | None = None
    """By default what the model was trained for."""
    platforms: Annotated[str | None, tyro.conf.arg(metavar="NAME,...")] = None
    """Where it is to run: some of cpu, cuda, rocm and tpu; by default cuda, tpu and cpu. This
    machine needn't have them. Not for .onnx."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation and the weights; bfloat16 is for GPUs and TPUs. Not for .onnx."""
    network_only: bool = False
    """Of .onnx: the network alone, from normalised pixels to class and mask logits."""
    license: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    """Of .onnx: the licence of the weights for its metadata, such as cc-by-nc-4.0."""
    native: bool = False
    """Keep images at their own size instead of the one that the model was tested at."""
    labels: LabelsName = None
    """The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, ade20k,
    ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name per line or, in
    .json, COCO's categories."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
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
    """The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, ade20k,
    ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name per line or, in
    .json, COCO's categories."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""


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
    """Where to. It is made if it isn't there."""
    format: Literal["both", "m2f_jax", "huggingface"] = "both"
    """This package's, the one that transformers loads, or both: this package's at the top, and that
    of transformers in a folder of its name."""
    results: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """results.json of m2f eval --model SOURCE --out, whose scores the card tells; they must be of
    this model."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """train.json of m2f train; by default the one beside SOURCE, if there is one. Without the names
    of your folders, it is uploaded too."""
    license: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    """By the hub's name for it, such as apache-2.0 or cc-by-nc-4.0. What started from published
    weights is bound by theirs."""
    datasets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID...")] = ()
    """The hub's names of the data sets that the model was trained on."""
    private: bool = False
    """Make a private repository."""
    overwrite: bool = False
    """Replace a model that is in the repository; it stays in the repository's history."""
    dry_run: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write what would be uploaded into a new or empty folder, and upload nothing."""
    labels: LabelsName = None
    """The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, ade20k,
    ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name per line or, in
    .json, COCO's categories."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""


@dataclass(frozen=True)
class Processes:
    """Several processes that share the work, perhaps on several machines."""

    distributed: bool = False
    """This is one of several processes, each started with this command: on SLURM, Open MPI,
    Kubernetes and Cloud TPU they find each other, elsewhere give the three arguments below."""
    coordinator_address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Where process 0 can be reached by the others."""
    num_processes: Annotated[int | None, Between(1, 1_000_000), tyro.conf.arg(metavar="N")] = None
    """How many processes there are."""
    process_id: Annotated[int | None, Between(0, 1_000_000), tyro.conf.arg(metavar="I")] = None
    """Which of them this is, from 0."""


SharedWork = Annotated[Processes, tyro.conf.OmitArgPrefixes]


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What every data set's evaluation takes."""

    model: Annotated[str | None, tyro.conf.arg(metavar="SOURCE")] = None
    """The model to run: a folder, a Hugging Face id or an authors' .pkl file; by default the small
    one in this package."""
    limit: Annotated[int | None, Between(1)] = None
    """Only the first so many images or videos."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where to write results.json and report.html."""
    export: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where to write the predictions in the data set's format, for other tools to score."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the computation; by default bfloat16 on a GPU or TPU and float32 on a CPU."""
    max_pixels: MaxPixels = MAX_PIXELS
    """Refuse larger images and maps of ids."""
    labels: LabelsName = None
    """The model's classes, where it doesn't name them: cityscapes, coco, coco-stuff, ade20k,
    ade20k-full, mapillary, youtubevis-2019, youtubevis-2021, or a file with a name per line or, in
    .json, COCO's categories."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
    processes: SharedWork = Processes()


@dataclass(frozen=True, kw_only=True)
class EvalImages(EvalOptions):
    """What every data set of images takes besides."""

    batch_size: Annotated[int, Between(1, 4096)] = 1
    """Images that each device computes at a time, where neighbours have the same size."""


@dataclass(frozen=True, kw_only=True)
class EvalCityscapes(EvalImages):
    """Score a model, or predictions in files, on a Cityscapes tree.

    Every image's counts are kept as they are finished: run the same command again after an
    interruption. A changed model, data set or setting starts anew.
    """

    root: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")]
    """The folder with leftImg8bit and gtFine."""
    predictions: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Instead of a model: a folder of files in the task's official format, or what m2f predict
    wrote; for instance and panoptic also the JSON file itself."""
    task: TaskName = "instance"
    """What to score: instance (AP, the default), panoptic (PQ) or semantic (mIoU)."""
    split: str = "val"
    """The split of the data set."""


InvalidObjects = Literal["refuse", "skip"]
ToolName = Annotated[
    Literal["pycocotools", "hotcoco", "faster-coco-eval"] | None, tyro.conf.arg(metavar="TOOL")
]


@dataclass(frozen=True, kw_only=True)
class EvalCoco(EvalImages):
    """Score a model, or predictions in files, on COCO or on your own data in COCO's format.

    Classes are matched by name. Every image's results are kept as they are finished, as for
    Cityscapes.
    """

    annotations: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ANNOTATIONS")]
    """instances_*.json, or panoptic_*.json for panoptic quality."""
    images: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")] = None
    """The folder of the images; --predictions need none."""
    predictions: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Instead of a model: a JSON file of results in COCO's format, or the folder that m2f predict
    wrote; panoptic PNGs are in a folder of the file's name, or in maps beside it. For semantic, the
    folder of PNGs with category ids."""
    task: TaskName = "instance"
    """What to score: instance (AP, the default), panoptic (PQ) or semantic (mIoU)."""
    maps: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """The panoptic PNGs; by default the annotation file's name without .json, beside it."""
    boundary: bool = False
    """Also Boundary AP, which looks at outlines more closely: in analysis.json and classes.csv of
    --out."""
    invalid: InvalidObjects = "refuse"
    """Objects that can't be used, such as outlines without points: list them and stop, or skip them
    and say how many there are."""
    tool: ToolName = None
    """What computes AP: hotcoco, by default where it is installed; pycocotools, to the same bits in
    30 times the time; or faster-coco-eval."""


@dataclass(frozen=True, kw_only=True)
class EvalFolder(EvalImages):
    """Score a model on your own data, in any form that m2f train accepts.

    That is a folder with val/, which has images/ and annotations.json (COCO's format), or images/,
    ids/ and labels.json; or the folder of a published data set. Classes are matched by name. Every
    image's results are kept as they are finished, as for Cityscapes.
    """

    layout: ClassVar[str | None] = None
    root: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")]
    """The folder."""
    task: TaskName | None = None
    """What to score; by default what the model was trained for."""
    split: str = "val"
    """The split of the data set."""
    invalid: InvalidObjects = "refuse"
    """As for m2f eval coco, where the data are in COCO's format."""
    tool: ToolName = None
    """As for m2f eval coco."""


@dataclass(frozen=True, kw_only=True)
class EvalAde20k(EvalFolder):
    """Score a model on ADE20K with 150 classes: ADEChallengeData2016.

    Needs images/validation/ and, by task, annotations_detectron2/ or annotations/ (semantic),
    ade20k_panoptic_val.json with ade20k_panoptic_val/, or ade20k_instance_val.json.
    """

    layout: ClassVar[str | None] = "ade20k"


@dataclass(frozen=True, kw_only=True)
class EvalAde20kFull(EvalFolder):
    """Score a semantic model on ADE20K with 847 classes: ADE20K_2021_17_01.

    Needs images_detectron2/validation/ and annotations_detectron2/validation/.
    """

    layout: ClassVar[str | None] = "ade20k-full"


@dataclass(frozen=True, kw_only=True)
class EvalMapillary(EvalFolder):
    """Score a model on Mapillary Vistas 1.2 with 65 classes.

    Needs validation/images/ and validation/labels/ (semantic) or validation/panoptic/.
    """

    layout: ClassVar[str | None] = "mapillary"


@dataclass(frozen=True, kw_only=True)
class EvalCocoStuff(EvalFolder):
    """Score a semantic model on COCO-Stuff 10k with 171 classes: coco_stuff_10k.

    Needs images_detectron2/test/ and annotations_detectron2/test/, which are the split val.
    """

    layout: ClassVar[str | None] = "coco-stuff"


@dataclass(frozen=True, kw_only=True)
class EvalYtvis(EvalOptions):
    """Score a video model, or results in a file, on YouTubeVIS or videos in its format: track AP.

    Classes are matched by name. A video goes through the network as a whole. Every video's results
    are kept as they are finished, as for Cityscapes.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT|JSON")]
    """The folder with valid.json or valid/instances.json, and valid/JPEGImages; or an annotation
    file. The labels of the published valid and test aren't public."""
    frames: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="FRAMES")] = None
    """The folder that the file_names in NAME.json are relative to; by default NAME/JPEGImages
    beside it, or JPEGImages beside instances.json."""
    model: Annotated[str | None, tyro.conf.arg(metavar="SOURCE")] = None
    """The video model to run: a folder, or an authors' .pkl file."""
    predictions: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Instead of a model: a JSON file of results in YouTubeVIS's format."""
    split: str = "valid"
    """The split of ROOT."""
    invalid: InvalidObjects = "refuse"
    """As for m2f eval coco."""


@dataclass(frozen=True, kw_only=True)
class EvalCompare:
    """Compare two finished evaluations of the same images: what got better, what worse.

    Differences are second minus first; an interval holds 95 % of what other images of the same kind
    would give (paired bootstrap). Prints both beside each other and writes compare.json,
    classes.csv, images.csv and compare.html.
    """

    first: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FIRST")]
    """The --out folder of an evaluation."""
    second: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SECOND")]
    """That of another one, of the same task and images."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "comparison"
    """Where to write."""


@dataclass(frozen=True)
class Eval:
    """Score a model on a data set, or compare two evaluations."""

    data: (
        Annotated[EvalCityscapes, tyro.conf.subcommand("cityscapes", prefix_name=False)]
        | Annotated[EvalCoco, tyro.conf.subcommand("coco", prefix_name=False)]
        | Annotated[EvalFolder, tyro.conf.subcommand("folder", prefix_name=False)]
        | Annotated[EvalAde20k, tyro.conf.subcommand("ade20k", prefix_name=False)]
        | Annotated[EvalAde20kFull, tyro.conf.subcommand("ade20k-full", prefix_name=False)]
        | Annotated[EvalMapillary, tyro.conf.subcommand("mapillary", prefix_name=False)]
        | Annotated[EvalCocoStuff, tyro.conf.subcommand("coco-stuff", prefix_name=False)]
        | Annotated[EvalYtvis, tyro.conf.subcommand("ytvis", prefix_name=False)]
        | Annotated[EvalCompare, tyro.conf.subcommand("compare", prefix_name=False)]
    )


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
    """How long to train; the learning rate's schedule is stretched to it."""
    batch_size: Annotated[int | None, Between(1, 1_000_000)] = None
    """Images in a step, of all devices together."""
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    """Of the crops, in pixels."""
    learning_rate: Annotated[float | None, POSITIVE] = None
    """At the start."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the computation; by default bfloat16 on a GPU or TPU and float32 on a CPU."""
    accumulate: Annotated[int | None, Between(1, 4096)] = None
    """Go through each batch in so many parts, for less memory."""
    remat: bool = False
    """Compute inner values again for the gradient, for much less memory."""
    shard_parameters: bool = False
    """Spread parameters and the optimizer's state over all devices."""
    average_decay: Annotated[float | None, Between(0, 1 - 1e-9)] = None
    """Of a moving average of the parameters, such as 0.9998; 0 for none."""
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    """Of fresh parameters, the order of the images and their changes."""
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
    """Don't read the pictures before the first step, which finds damaged ones; a second start reads
    only what has changed anyway."""
    threads: Annotated[int, Between(1, 1024)] = 8
    """How many images are read at the same time; by each worker, if there are any."""
    workers: Annotated[int, Between(0, 1024)] = 0
    """Read images in so many processes; 0 for threads alone. One for every core but one is best
    where a GPU would wait for images."""
    max_pixels: MaxPixels = MAX_PIXELS
    """Refuse larger images and maps of ids."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
    processes: SharedWork = Processes()


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
    """Which streets; another one for each split."""
    split: Literal["train", "val", "test"] = "val"
    """The split of the data set."""
    workers: Annotated[int | None, Between(0, 1024)] = None
    """Draw in so many processes; by default one for every core."""


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from "512x1024".

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
