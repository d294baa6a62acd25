"""The options of `m2f eval`, for each kind of data."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import tyro

from m2f_jax.bounds import Between
from m2f_jax.cli.arguments.values import (
    DtypeName,
    InvalidObjects,
    LabelsName,
    MaxPixels,
    Processes,
    Revision,
    SharedWork,
    TaskName,
)
from m2f_jax.pixel_limit import MAX_PIXELS

ToolName = Annotated[
    Literal["pycocotools", "hotcoco", "faster-coco-eval"] | None, tyro.conf.arg(metavar="TOOL")
]


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """The options for every data set."""

    model: Annotated[str | None, tyro.conf.arg(metavar="SOURCE")] = None
    """The model to run: a folder, a Hugging Face id or an authors' .pkl file; by default the small
    one in this package."""
    limit: Annotated[int | None, Between(1)] = None
    """Score only the first so many images or videos."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """The folder to write results.json and report.html into."""
    export: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """The folder to write the predictions into, in the data set's official format."""
    dtype: DtypeName = None
    max_pixels: MaxPixels = MAX_PIXELS
    """Refuse larger images and maps of ids."""
    labels: LabelsName = None
    revision: Revision = None
    processes: SharedWork = field(default_factory=Processes)


@dataclass(frozen=True, kw_only=True)
class EvalImages(EvalOptions):
    """The options for every data set of images."""

    batch_size: Annotated[int, Between(1, 4096)] = 1
    """Images that each device computes at a time, where neighbours have the same size."""
    boundary: bool = False
    """Also score outlines: Boundary PQ of panoptic segments, Boundary AP of instances."""


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


@dataclass(frozen=True, kw_only=True)
class EvalCoco(EvalImages):
    """Score a model, or predictions in files, on COCO or on your own data in COCO's format.

    LVIS's files are scored by LVIS's rules. Classes are matched by name. Every image's results are
    kept as they are finished, as for Cityscapes.
    """

    annotations: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ANNOTATIONS")]
    """instances_*.json or lvis_v1_*.json, or panoptic_*.json for panoptic quality."""
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
    """The folder of the data set."""
    task: TaskName | None = None
    """What to score; by default what the model was trained for."""
    split: str = "val"
    """The split of the data set."""
    invalid: InvalidObjects = "refuse"
    """Objects of COCO's format that can't be used: list them and stop, or skip them."""
    tool: ToolName = None
    """What computes AP of data in COCO's format; see m2f eval coco."""


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
    """Objects that can't be used: list them and stop, or skip them and say how many there are."""


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
    """The --out folder of another one, of the same task and images."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "comparison"
    """The folder to write into."""


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
