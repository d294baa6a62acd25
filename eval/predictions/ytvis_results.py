"""Results in YouTubeVIS's format: a list of tracks, each with its video, category and score."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2f_jax.datasets.coco_format.faults import EntryError, Faults
from m2f_jax.datasets.coco_format.objects import known_category, known_owner
from m2f_jax.datasets.coco_format.outlines import Outline, check_encoded, outline_counts
from m2f_jax.datasets.coco_format.tracks import VideoEntry, outlines_of
from m2f_jax.datasets.coco_format.values import shown
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.files import read_json

from .coco import RESULTS_FILE
from .coco_results import check_keys, score_of
from .files import InstancePrediction

KEYS = ("video_id", "category_id", "segmentations", "score")


@dataclass(frozen=True)
class TrackResults:
    """A results file of tracks; a video without entries has no detections.

    Attributes:
        file: the file.
        predictions: of each video, by its name; the masks are lists of encodings, None in frames
            without.
    """

    file: Path
    predictions: Mapping[str, InstancePrediction]

    @classmethod
    def find(cls, path: Path, dataset: YtvisDataset) -> "TrackResults":
        """Reads and checks the file, or predictions.json in a folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it isn't a list of results, or entries can't be used; the file and the
                places in it are named.
        """
        file = path / RESULTS_FILE if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; expected a file of YouTubeVIS results")
        entries = read_json(file)
        if not isinstance(entries, list):
            raise ValueError(
                f"{file} isn't a list of YouTubeVIS results but holds {shown(entries)}"
            )
        videos = {video.id: video for video in dataset.file.videos}
        labels = {label.id: label for label in dataset.categories}
        faults = Faults(str(file), "write the results anew")
        read: list[tuple[int, VideoEntry, int, float, tuple[Outline | None, ...]]] = []
        for number, entry in enumerate(entries):
            try:
                check_keys(entry, KEYS)
                video = known_owner(entry, videos, "video")
                category, score = known_category(entry, labels), score_of(entry)
                read.append((number, video, category, score, outlines_of(entry, video)))
            except EntryError as error:
                faults.add(f"entry {number}", error)
        outlines, broken = check_encoded(
            [outline for *_, found in read for outline in found],
            [video.size for _, video, *_, found in read for _ in found],
        )
        owners = [(number, t) for number, *_, found in read for t in range(len(found))]
        for index, error in broken.items():
            number, t = owners[index]
            faults.add(f"entry {number}", EntryError(error.kind, f"segmentations[{t}]: {error}"))
        faults.refuse()
        sound = iter(outlines)
        columns: dict[Any, tuple[list, list, list]] = {id_: ([], [], []) for id_ in videos}
        for _, video, category, score, found in read:
            masks = [encoding(next(sound), video) for _ in found]
            for column, value in zip(columns[video.id], (masks, category, score), strict=True):
                column.append(value)
        predictions = {
            video.name: InstancePrediction(masks, np.array(labels, int), np.array(scores, float))
            for video in dataset.images
            for masks, labels, scores in [columns[video.id]]
        }
        return cls(file, predictions)

    def path(self, item: Any) -> Path:
        """Returns the file."""
        del item
        return self.file

    def read(self, item: Any) -> InstancePrediction:
        """Returns one video's detections."""
        return self.predictions[item.name]


def encoding(outline: Outline | None, video: VideoEntry) -> dict[str, Any] | None:
    """Returns a mask as run lengths; None where there is none."""
    if outline is None:
        return None
    return {"size": list(video.size), "counts": outline_counts(outline, video.size).decode()}
