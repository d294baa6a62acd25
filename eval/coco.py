"""COCO's instance and panoptic tasks, and a user's own data in COCO's format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from m2f_jax.config import Task, read_json
from m2f_jax.labels import Label
from m2f_jax.preprocess import read_image
from m2f_jax.results import InstanceSegmentation, PanopticSegmentation
from m2f_jax.segmenter import Segmentation

from .coco_ap import CocoAnnotations, CocoMaskAP
from .panoptic_quality import PanopticQuality


@dataclass(frozen=True)
class CocoImage:
    """One image of an annotation file; `truth` is its entry of a panoptic file."""

    id: int | str
    image: Path
    truth: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name of its table."""
        return f"{self.id}".replace("/", "_")


def coco_images(annotations: Path, folder: Path, *, panoptic: bool) -> list[CocoImage]:
    """The images of an annotation file, in order of their ids.

    Raises:
        FileNotFoundError: the file or an image is missing.
        ValueError: the file isn't in COCO's format.
    """
    if not annotations.is_file():
        raise FileNotFoundError(f"{annotations} is missing; expected a COCO annotation file")
    content = read_json(annotations)
    try:
        names = {entry["id"]: entry["file_name"] for entry in content["images"]}
        truths = {entry["image_id"]: entry for entry in content["annotations"]} if panoptic else {}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{annotations} isn't in COCO's format: it lacks {error}") from error
    if panoptic and (without := [id_ for id_ in names if id_ not in truths]):
        raise ValueError(f"{annotations}: image {without[0]} has no panoptic annotation")
    images = [CocoImage(id_, folder / names[id_], truths.get(id_)) for id_ in sorted(names)]
    missing = [image.image for image in images if not image.image.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(images)} images in {annotations} are missing, the first "
            f"one {missing[0]}"
        )
    return images


def category_ids(labels: Sequence[Label], categories: Sequence[Mapping[str, Any]]) -> list[int]:
    """The category id of each class of the model: by its name, whose spelling must agree.

    Raises:
        ValueError: a class isn't among the categories.
    """
    by_name = {category["name"]: category["id"] for category in categories}
    unknown = [label.name for label in labels if label.name not in by_name]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the model's {len(labels)} classes aren't categories of the "
            f"annotations: {', '.join(unknown[:5])}; theirs are {', '.join(list(by_name)[:5])} ..."
        )
    return [by_name[label.name] for label in labels]


@dataclass(frozen=True, eq=False)
class CocoInstances:
    """Mask AP."""

    task: ClassVar[Task] = "instance"
    annotations: CocoAnnotations
    categories: np.ndarray  # category id by class index

    def read(self, item: CocoImage) -> tuple[np.ndarray, None]:
        """The image; the ground truth is in memory already."""
        return read_image(item.image), None

    def measure(self, item: CocoImage, truth: None, segmentation: Segmentation) -> CocoMaskAP:
        """The detections in one image."""
        del truth
        assert isinstance(segmentation, InstanceSegmentation)
        metric = self.empty()
        categories = self.categories[segmentation.labels]
        metric.add(item.id, segmentation.masks, categories, segmentation.scores)
        return metric

    def empty(self) -> CocoMaskAP:
        """No detection; images without any don't count, since a part may be evaluated."""
        return CocoMaskAP(self.annotations, images="added")

    def load(self, path: Path) -> CocoMaskAP:
        """Detections that were saved."""
        return CocoMaskAP.load(path, self.annotations)


@dataclass(frozen=True, eq=False)
class CocoPanoptic:
    """Panoptic quality."""

    task: ClassVar[Task] = "panoptic"
    labels: tuple[Label, ...]  # the categories of the annotations
    categories: np.ndarray  # category id by class index
    maps: Path

    def read(self, item: CocoImage) -> tuple[np.ndarray, tuple[np.ndarray, list[dict]]]:
        """The image, and its panoptic map with the list of segments."""
        assert item.truth is not None
        path = self.maps / item.truth["file_name"]
        try:
            with Image.open(path) as png:
                ids = np.asarray(png.convert("RGB")).astype(np.int32) @ [1, 256, 65536]
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing; name its folder with --maps") from error
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{path} can't be read ({error})") from error
        return read_image(item.image), (ids, item.truth["segments_info"])

    def measure(
        self, item: CocoImage, truth: tuple[np.ndarray, list[dict]], segmentation: Segmentation
    ) -> PanopticQuality:
        """The counts of one image."""
        assert isinstance(segmentation, PanopticSegmentation)
        segments = [
            {"id": segment.id, "category_id": int(self.categories[segment.label])}
            for segment in segmentation.segments
        ]
        metric = self.empty()
        metric.add(*truth, segmentation.segment_map, segments, image=item.name)
        return metric

    def empty(self) -> PanopticQuality:
        """No image."""
        return PanopticQuality(self.labels)

    def load(self, path: Path) -> PanopticQuality:
        """Counts that were saved."""
        return PanopticQuality.load(path)
