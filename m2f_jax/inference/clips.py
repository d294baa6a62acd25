"""Long videos cut into clips that overlap, and their instances joined by the shared frames."""

import collections
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment

from m2f_jax.inference.results import InstanceSegmentation, VideoInstanceSegmentation
from m2f_jax.masks.rle import Encoding, decode_rle, sound_counts
from m2f_jax.masks.tracks import track_overlaps

SAME = 0.5  # tracks whose intersection over union is more are of one object, as parts in tiles


@dataclass(frozen=True)
class Clip:
    """Consecutive frames, the first of which may also be in the clip before.

    Attributes:
        start: the first frame's number in the video, from 0.
        frames: the frames.
        shared: the number of frames that the clip before has too.
    """

    start: int
    frames: list[Any]
    shared: int


def clips_of(frames: Iterable[Any], length: int, overlap: int) -> Iterator[Clip]:
    """Yields clips of `length` frames, of which neighbours share `overlap` or more.

    Where the last clip would be shorter than the others, it begins earlier, so all clips are of one
    length unless the video is shorter. At most `length` frames are held at a time.

    Raises:
        ValueError: the overlap isn't less than the length.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"clips of {length} frames can't overlap by {overlap}")
    window: collections.deque[Any] = collections.deque(maxlen=length)
    count = done = 0
    for count, frame in enumerate(frames, 1):
        window.append(frame)
        if count == (done + length - overlap if done else length):
            start = count - len(window)
            yield Clip(start, list(window), done - start if done else 0)
            done = count
    if count > done:
        start = count - len(window)
        yield Clip(start, list(window), done - start if done else 0)


@dataclass(frozen=True)
class ClipInstances:
    """The instances of a clip.

    Attributes:
        size: height and width of the frames.
        scores: of each.
        labels: the class index of each.
        counts: the compressed run lengths of each in every frame; "" where it isn't seen.
    """

    size: tuple[int, ...]
    scores: tuple[float, ...]
    labels: tuple[int, ...]
    counts: tuple[tuple[str, ...], ...]

    def __post_init__(self):
        if not len(self.scores) == len(self.labels) == len(self.counts):
            raise ValueError("scores, labels and counts must be equally many")
        height, width = self.size
        sound_counts([x for masks in self.masks for x in masks if x is not None], (height, width))

    @classmethod
    def of(cls, found: VideoInstanceSegmentation) -> "ClipInstances":
        """Returns the instances that a model found in a clip, as run lengths."""
        return cls(
            size=found.size,
            scores=tuple(found.scores.tolist()),
            labels=tuple(found.labels.tolist()),
            counts=tuple(
                tuple("" if mask is None else mask["counts"] for mask in masks)
                for masks in found.to_rle()
            ),
        )

    @property
    def masks(self) -> list[list[Encoding | None]]:
        """Each instance's encoding in every frame; None where it isn't seen."""
        return [
            [{"size": [*self.size], "counts": x} if x else None for x in counts]
            for counts in self.counts
        ]

    def frame(self, number: int) -> tuple[InstanceSegmentation, Int[np.ndarray, "seen"]]:
        """Returns the instances that are seen in a frame, and the index of each among all."""
        height, width = self.size
        seen = [i for i, counts in enumerate(self.counts) if counts[number]]
        masks = [decode_rle(self.counts[i][number].encode(), (height, width)) for i in seen]
        places = np.array(seen, int)
        segmentation = InstanceSegmentation.from_masks(
            scores=np.array(self.scores, np.float32)[places],
            labels=np.array(self.labels, int)[places],
            masks=np.array(masks, bool).reshape(-1, height, width),
            queries=places,
        )
        return segmentation, places


@dataclass
class JoinedTrack:
    """An object of a whole video.

    Attributes:
        label: the class index.
        masks: by the number of the frame; None or missing where it isn't seen.
        scores: the sum of its clips' scores, each times the frames that the clip added.
        frames: the sum of these frames.
    """

    label: int
    masks: dict[int, Encoding | None] = field(default_factory=dict)
    scores: float = 0.0
    frames: int = 0

    @property
    def score(self) -> float:
        """The mean score of its clips, weighted by the frames that each clip added."""
        return self.scores / self.frames


class TrackJoiner:
    """Joins the instances of clips to tracks.

    A track continues with at most one instance of the next clip: of its class, and with an
    intersection over union of more than `SAME` over all shared frames. Pairs are chosen such that
    the sum of these overlaps is greatest. A track without a partner ends; an instance without one
    begins a track. In shared frames, the masks of the earlier clip stay.

    Attributes:
        tracks: those of all clips so far; their order doesn't change.
        open: the indices of the tracks that the last clip has.
    """

    def __init__(self):
        self.tracks: list[JoinedTrack] = []
        self.open: list[int] = []

    def add(self, clip: Clip, found: ClipInstances) -> list[int]:
        """Takes the instances of the next clip.

        Returns:
            The index in `tracks` of each instance's track.
        """
        masks = found.masks
        earlier = [
            [self.tracks[i].masks.get(clip.start + t) for t in range(clip.shared)]
            for i in self.open
        ]
        overlaps = track_overlaps(earlier, [x[: clip.shared] for x in masks])
        same = [[self.tracks[i].label == label for label in found.labels] for i in self.open]
        overlaps *= np.array(same, bool).reshape(overlaps.shape)
        rows, columns = linear_sum_assignment(np.where(overlaps > SAME, overlaps, 0), maximize=True)
        partners = {
            column: self.open[row]
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if overlaps[row, column] > SAME
        }
        places = []
        for column, (score, label) in enumerate(zip(found.scores, found.labels, strict=True)):
            place = partners.get(column, len(self.tracks))
            if place == len(self.tracks):
                self.tracks.append(JoinedTrack(label))
            track, new = self.tracks[place], range(clip.shared, len(clip.frames))
            track.masks |= {clip.start + t: masks[column][t] for t in new}
            track.scores, track.frames = track.scores + score * len(new), track.frames + len(new)
            places.append(place)
        self.open = places
        return places
