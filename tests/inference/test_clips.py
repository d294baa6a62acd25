"""Clips of a long video, and what is joined from one to the next."""

import numpy as np
import pytest

from m2f_jax.inference.clips import Clip, ClipInstances, TrackJoiner, clips_of
from m2f_jax.inference.results import VideoInstanceSegmentation
from m2f_jax.masks.rle import encode_rle
from m2f_jax.masks.tracks import track_overlaps

SIZE = (20, 30)


@pytest.mark.parametrize(
    ("count", "length", "overlap", "expected"),
    [
        (0, 4, 2, []),
        (3, 4, 2, [(0, 3, 0)]),
        (4, 4, 2, [(0, 4, 0)]),
        (5, 4, 2, [(0, 4, 0), (1, 4, 3)]),
        (8, 4, 2, [(0, 4, 0), (2, 4, 2), (4, 4, 2)]),
        (9, 4, 1, [(0, 4, 0), (3, 4, 1), (5, 4, 2)]),
        (3, 1, 0, [(0, 1, 0), (1, 1, 0), (2, 1, 0)]),
    ],
)
def test_clips(count, length, overlap, expected):
    clips = list(clips_of(range(count), length, overlap))
    assert [(clip.start, len(clip.frames), clip.shared) for clip in clips] == expected
    for clip in clips:
        assert clip.frames == list(range(clip.start, clip.start + len(clip.frames)))


def test_frames_are_read_when_they_are_needed():
    read = []
    clips = clips_of((read.append(t) or t for t in range(100)), 4, 2)
    next(clips)
    assert read == [0, 1, 2, 3]
    next(clips)
    assert read == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="clips of 4 frames can't overlap by 4"):
        next(clips_of([], 4, 4))


def box(left, top=5, side=8):
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def found(*instances):
    """Instances given as class, score and their left edges; None where they aren't seen."""
    masks = [
        [np.zeros(SIZE, bool) if x is None else box(x) for x in lefts] for _, _, lefts in instances
    ]
    return ClipInstances.of(
        VideoInstanceSegmentation(
            scores=np.array([score for _, score, _ in instances], np.float32),
            labels=np.array([label for label, _, _ in instances], int),
            queries=np.arange(len(instances)),
            size=SIZE,
            packed_masks=tuple(np.packbits(np.array(x), axis=-1) for x in masks),
        )
    )


def clip(start, shared, length=4):
    return Clip(start, list(range(start, start + length)), shared)


def test_tracks_go_on_where_masks_agree():
    joiner = TrackJoiner()
    assert joiner.add(clip(0, 0), found((0, 0.8, [0, 1, 2, 3]), (0, 0.9, [20, 20, 20, 20]))) == [
        0,
        1,
    ]
    second = found((0, 0.5, [20, 20, 21, 22]), (0, 0.6, [2, 3, 4, 5]), (1, 0.7, [2, 3, 4, 5]))
    assert joiner.add(clip(2, 2), second) == [1, 0, 2]
    moving, _, other = joiner.tracks
    assert [moving.masks[t] for t in range(6)] == [encode_rle(box(t)) for t in range(6)]
    assert moving.score == pytest.approx((4 * 0.8 + 2 * 0.6) / 6)
    assert sorted(other.masks) == [4, 5]  # of another class; shared frames stay as they were
    assert joiner.tracks[1].score == pytest.approx((4 * 0.9 + 2 * 0.5) / 6)


def test_what_agrees_less_ends_and_begins():
    joiner = TrackJoiner()
    joiner.add(clip(0, 0), found((0, 0.8, [0, 0, 0, 0])))
    # Moved by 3 of 8 pixels, 5 / 11 of the union is common; by 2 of them, 6 / 10.
    assert joiner.add(clip(2, 2), found((0, 0.8, [3, 3, 3, 3]))) == [1]
    assert joiner.add(clip(4, 2), found((0, 0.8, [5, 5, 5, 5]))) == [1]
    # Not seen in the shared frames, it is another one; so is what comes after a clip without it.
    assert joiner.add(clip(6, 2), found((0, 0.8, [None, None, 5, 5]))) == [2]
    assert joiner.add(clip(8, 2), found()) == []
    assert joiner.add(clip(10, 2), found((0, 0.8, [5, 5, 5, 5]))) == [3]
    assert joiner.add(clip(12, 2), found((1, 0.8, [5, 5, 5, 5]))) == [4]  # of another class


def test_each_has_one_partner_and_all_together_the_best():
    joiner = TrackJoiner()
    joiner.add(clip(0, 0, 1), found((0, 0.9, [0]), (0, 0.8, [2])))
    # The first agrees with both, with the left one best; but the second has no other partner.
    pairs = found((0, 0.7, [1]), (0, 0.6, [0]))
    assert joiner.add(clip(0, 1, 1), pairs) == [1, 0]


def test_overlaps_are_over_all_frames():
    a = [encode_rle(box(0)), None, encode_rle(box(0))]
    b = [encode_rle(box(0)), encode_rle(box(0)), None]
    np.testing.assert_allclose(track_overlaps([a], [a, b]), [[1, 1 / 3]])
    assert track_overlaps([[None]], [[None]]) == 0
    assert track_overlaps([], [a]).shape == (0, 1)


def test_frames_of_a_clip_show_what_is_seen():
    instances = found((0, 0.8, [None, 1]), (1, 0.7, [4, 5]))
    first, places = instances.frame(0)
    assert places.tolist() == [1]
    np.testing.assert_array_equal(first.masks, [box(4)])
    assert first.labels.tolist() == [1]
    with pytest.raises(ValueError, match="the run lengths add up to 1"):
        ClipInstances(SIZE, (0.5,), (0,), (("1",),))
