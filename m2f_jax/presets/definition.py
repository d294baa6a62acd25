"""The facts of a published model, and of the data sets that such models were trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from m2f_jax.config import ModelConfig
from m2f_jax.labels import (
    ADE20K,
    ADE20K_FULL,
    CITYSCAPES,
    COCO,
    COCO_STUFF,
    MAPILLARY_VISTAS,
    YOUTUBEVIS_2019,
    YOUTUBEVIS_2021,
    Label,
)

HUB_PREFIX = "facebook/mask2former-"  # before a Mask2Former's name: its repository on the hub
MASKFORMER_HUB_PREFIX = "facebook/"  # before a MaskFormer's name
LICENSE = "CC BY-NC 4.0"  # of the authors' weights, as both of their model zoos say
LICENSE_URL = "https://creativecommons.org/licenses/by-nc/4.0/"

Architecture = Literal["mask2former", "maskformer", "video_mask2former"]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set of the model zoo.

    Attributes:
        title: its name.
        labels: its classes; models for the instance task have the things among them.
        validation_images: the number of images or videos that the published scores are of.
        cities: for Cityscapes, their number by city, with which their names begin.
    """

    title: str
    labels: tuple[Label, ...]
    validation_images: int
    cities: Mapping[str, int] = field(default_factory=dict)


DATA_SETS: Mapping[str, DataSet] = {  # by the word in the names of presets
    "coco": DataSet(title="COCO", labels=COCO, validation_images=5000),
    "cityscapes": DataSet(
        title="Cityscapes",
        labels=CITYSCAPES,
        validation_images=500,
        cities={"frankfurt": 267, "lindau": 59, "munster": 174},
    ),
    "ade": DataSet(title="ADE20K", labels=ADE20K, validation_images=2000),
    "ade-full": DataSet(title="ADE20K, all classes", labels=ADE20K_FULL, validation_images=2000),
    "mapillary-vistas": DataSet(
        title="Mapillary Vistas", labels=MAPILLARY_VISTAS, validation_images=2000
    ),
    "coco-stuff": DataSet(title="COCO-Stuff 10k", labels=COCO_STUFF, validation_images=1000),
    "youtubevis-2019": DataSet(
        title="YouTubeVIS 2019", labels=YOUTUBEVIS_2019, validation_images=302
    ),
    "youtubevis-2021": DataSet(
        title="YouTubeVIS 2021", labels=YOUTUBEVIS_2021, validation_images=421
    ),
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published model: its architecture, its test settings and its scores.

    Images were resized to `shortest_edge`, or to less where the other edge would have exceeded
    `longest_edge`, and padded to multiples of `size_divisor`. A query took part in a panoptic map
    if its score exceeded `object_mask_threshold`.

    Attributes:
        architecture: the authors' name of the network.
        data_set: the data set that it was trained and tested on, a key of `DATA_SETS`.
        config: the network, with its classes and its task.
        shortest_edge: in pixels.
        longest_edge: in pixels.
        size_divisor: in pixels.
        object_mask_threshold: from 0 to 1.
        parameters: the number of trained parameters.
        scores: the authors', in percent, on the validation images at that single scale: "PQ", "AP"
            (of masks), "AP50" and "mIoU", as far as the model zoo reports them.
        file: the name of the authors' checkpoint.
        hub: the repository on the Hugging Face hub; None if none is known.
    """

    architecture: Architecture
    data_set: str
    config: ModelConfig
    shortest_edge: int
    longest_edge: int
    size_divisor: int = 32
    object_mask_threshold: float
    parameters: int
    scores: Mapping[str, float]
    file: str
    hub: str | None
