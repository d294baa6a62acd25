"""COCO's instance and panoptic tasks, and a user's own data in COCO's format."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from m2f_jax.config import Task, read_json
from m2f_jax.images import read_ids, read_image
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation
from m2f_jax.inference.segmenter import Segmentation
from m2f_jax.labels import Label
from m2f_jax.structures import Size

from .metrics.coco_annotations import CocoAnnotations
from .metrics.coco_ap import CocoMaskAP
from .metrics.panoptic_quality import PanopticQuality
from .predictions.checks import png_size
from .predictions.exports import export_entry, export_panoptic
from .predictions.files import (
    CocoResults,
    PanopticFiles,
    PanopticPrediction,
    PredictionFiles,
    Predictions,
)


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


def labels_of(categories: Sequence[Mapping[str, Any]]) -> tuple[Label, ...]:
    """The categories of an annotation file; those that don't say otherwise are things."""
    return tuple(
        Label(id=category["id"], name=category["name"], is_thing=bool(category.get("isthing", 1)))
        for category in categories
    )


def labels_as(labels: Sequence[Label], categories: Sequence[Label]) -> tuple[Label, ...]:
    """The category of each class of the model: by its name, whose spelling must agree.

    Raises:
        ValueError: a class isn't among the categories.
    """
    by_name = {category.name: category for category in categories}
    unknown = [label.name for label in labels if label.name not in by_name]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the model's {len(labels)} classes aren't categories of the "
            f"annotations: {', '.join(unknown[:5])}; theirs are {', '.join(list(by_name)[:5])} ..."
        )
    return tuple(by_name[label.name] for label in labels)


@dataclass(frozen=True, eq=False)
class CocoInstances:
    """Mask AP."""

    task: ClassVar[Task] = "instance"
    annotations: CocoAnnotations
    labels: tuple[Label, ...]  # by class index, with the ids of categories
    export: Path | None = None

    def read(self, item: CocoImage) -> tuple[np.ndarray, None]:
        """The image; the ground truth is in memory already."""
        return read_image(item.image), None

    def truth(self, item: CocoImage) -> None:
        """Nothing, since the ground truth is in memory already."""

    def measure(self, item: CocoImage, truth: None, segmentation: Segmentation) -> CocoMaskAP:
        """The detections in one image."""
        assert isinstance(segmentation, InstanceSegmentation)
        if self.export is not None:
            export_entry(self.export, item.name, segmentation.to_coco(self.labels, item.id))
        ids = np.array([label.id for label in self.labels])[segmentation.labels]
        return self.count(item, truth, Predictions(segmentation.masks, ids, segmentation.scores))

    def count(self, item: CocoImage, truth: None, prediction: Predictions) -> CocoMaskAP:
        """The detections in one image."""
        del truth
        metric = self.empty()
        metric.add(item.id, *prediction)
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
    categories: tuple[Label, ...]
    labels: tuple[Label, ...]  # by class index, with the ids of categories
    maps: Path
    export: Path | None = None

    def read(self, item: CocoImage) -> tuple[np.ndarray, tuple[np.ndarray, list[dict]]]:
        """The image, and its panoptic map with the list of segments."""
        return read_image(item.image), self.truth(item)

    def truth(self, item: CocoImage) -> tuple[np.ndarray, list[dict]]:
        """The panoptic map of an image and its list of segments."""
        assert item.truth is not None
        path = self.maps / item.truth["file_name"]
        try:
            return read_ids(path, "rgb"), item.truth["segments_info"]
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing; name its folder with --maps") from error

    def measure(
        self, item: CocoImage, truth: tuple[np.ndarray, list[dict]], segmentation: Segmentation
    ) -> PanopticQuality:
        """The counts of one image."""
        assert isinstance(segmentation, PanopticSegmentation)
        if self.export is not None:
            export_panoptic(self.export, item.name, segmentation, self.labels, item.id)
        segments = [
            {"id": segment.id, "category_id": self.labels[segment.label].id}
            for segment in segmentation.segments
        ]
        return self.count(item, truth, PanopticPrediction(segmentation.segment_map, segments))

    def count(
        self,
        item: CocoImage,
        truth: tuple[np.ndarray, list[dict]],
        prediction: PanopticPrediction,
    ) -> PanopticQuality:
        """The counts of one image."""
        metric = self.empty()
        metric.add(*truth, *prediction, image=item.name)
        return metric

    def empty(self) -> PanopticQuality:
        """No image."""
        return PanopticQuality(self.categories)

    def load(self, path: Path) -> PanopticQuality:
        """Counts that were saved."""
        return PanopticQuality.load(path)


def find_coco_predictions(
    path: Path,
    evaluation: CocoInstances | CocoPanoptic,
    items: Sequence[CocoImage],
    known: Sequence[CocoImage],
) -> PredictionFiles:
    """The predictions at a path, all of them there and checked but for their pixels.

    Args:
        path: a JSON file in COCO's format for results, or the folder it is in: predictions.json.
            The PNG files of panoptic predictions are in a folder of its name, as COCO has it, or
            in "maps" beside it.
        evaluation: what they are for.
        items: the images to score.
        known: all images of the annotations. Entries name them by id, or by the name of the file
            without its ending.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or isn't as its format has it; it is named.
    """
    names = {item.image.stem: item.name for item in known}
    names |= {str(item.id): item.name for item in known}
    ids = {label.id for label in evaluation.labels}

    def name_of(image_id: int | str) -> str | None:
        return names.get(str(image_id))

    def check_categories(used: Collection[int]):
        if unknown := set(used) - ids:
            raise ValueError(
                f"the category ids {sorted(unknown, key=str)[:10]} aren't among those of the "
                "annotations; class indices have to be turned into ids"
            )

    if isinstance(evaluation, CocoPanoptic):

        def size_of(item: CocoImage) -> Size:
            assert item.truth is not None
            return png_size(evaluation.maps / item.truth["file_name"])

        return PanopticFiles.find(path, items, name_of, size_of, check_categories)

    def check(categories: Sequence[int], scores: Sequence[float]):
        check_categories(categories)
        if not all(map(math.isfinite, scores)):
            raise ValueError(
                f"some scores aren't finite: {[x for x in scores if not math.isfinite(x)][:5]}"
            )

    file = path if path.suffix == ".json" else path / "predictions.json"
    sizes = evaluation.annotations.sizes
    return CocoResults.find(file, items, name_of, lambda item: sizes[item.id], check)
