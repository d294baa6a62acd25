"""Track AP against the rules of YouTubeVIS's own evaluation, written down once more in numpy."""

import itertools
import json

import numpy as np
import pytest
from m2f_jax.eval.metrics.coco.annotations import CocoAnnotations
from m2f_jax.eval.metrics.coco.track_ap import TrackAP

from m2f_jax.masks.rle import encode_rle
from m2f_jax.masks.tracks import track_overlaps
from tests.eval.metrics.coco.test_mask_ap import numbers

AREAS = [(0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10)]


def make_videos(seed, crowds=0.2, categories=3):
    """A random data set with its masks, and detections by video: tracks, category ids, scores."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(1000, 3, replace=False).tolist()
    names = (rng.choice(40, categories, replace=False) + 1).tolist()
    annotations, truth, detections, videos = [], [], {}, []
    for video in ids:
        length, height, width = map(int, (rng.integers(1, 5), *rng.integers(270, 330, 2)))
        videos.append({"id": video, "length": length, "height": height, "width": width})
        tracks, found, scores = [], [], []
        for _ in range(rng.integers(2, 6)):
            here = rng.random(length) < 0.8
            top, left = rng.integers(0, 8, 2)
            sides = rng.choice([80, 200, 258]) + rng.integers(0, 12, 2)  # of all three areas
            track = np.zeros((length, height, width), bool)
            track[here, top : top + sides[0], left : left + sides[1]] = True
            category = int(rng.choice(names[:-1]))
            truth.append((video, category, track))
            annotations.append(
                {
                    "id": len(annotations),
                    "video_id": video,
                    "category_id": category,
                    "segmentations": [encode_rle(x) if x.any() else None for x in track],
                    "areas": [int(x.sum()) or None for x in track],
                    "iscrowd": int(rng.random() < crowds),
                }
            )
            for _ in range(rng.integers(0, 4)):
                moved = np.roll(track, tuple(rng.integers(-9, 10, 2)), (1, 2))
                tracks.append(moved & (rng.random(length) < 0.9)[:, None, None])
                found.append(category if rng.random() < 0.8 else int(rng.choice(names)))
                scores.append(float(np.round(rng.random(), 1)))  # so that there are ties
        tracks = np.array(tracks, bool).reshape(-1, length, height, width)
        detections[video] = tracks, found, scores
    dataset = {
        "videos": videos,
        "categories": [{"id": n, "name": f"category {n}"} for n in names],
        "annotations": annotations,
    }
    return dataset, [track for _, _, track in truth], detections


def mean_area(track):
    areas = [int(mask.sum()) for mask in track if mask.any()]
    return np.mean(areas) if areas else 0.0


def overlap(a, b):
    union = np.sum(a | b)
    return np.sum(a & b) / union if union else 0.0


def match(found, objects, ious, ignored, threshold):
    """Which object each detection takes, by its place; -1 for none."""
    free, taken = np.ones(len(objects), bool), []
    order = sorted(range(len(objects)), key=lambda g: ignored[g])
    for d in range(len(found)):
        best, place = min(threshold, 1 - 1e-10), -1
        for g in order:
            if not free[g] and not objects[g]["iscrowd"]:
                continue
            if place >= 0 and not ignored[place] and ignored[g]:
                break
            if ious[d, g] >= best:
                best, place = ious[d, g], g
        if place >= 0:
            free[place] = False
        taken.append(place)
    return taken


def official(dataset, masks, detections):
    """The twelve numbers of the official evaluation; -1 where there is no object."""
    categories = sorted(x["id"] for x in dataset["categories"])
    videos = sorted(x["id"] for x in dataset["videos"])
    pairs = list(zip(dataset["annotations"], masks, strict=True))
    ap, ar = np.full((2, 4, 3, 10, len(categories)), np.nan)
    for k, (low, high) in itertools.product(range(len(categories)), AREAS):
        columns, total = {limit: [] for limit in (1, 10, 100)}, 0
        for video in videos:
            mine = (video, categories[k])
            truth = [(x, y) for x, y in pairs if (x["video_id"], x["category_id"]) == mine]
            objects = [x for x, _ in truth]
            areas = [mean_area(y) for _, y in truth]
            ignored = [
                bool(x["iscrowd"]) or not low <= a <= high
                for x, a in zip(objects, areas, strict=True)
            ]
            total += ignored.count(False)
            tracks, labels, scores = detections[video]
            chosen = [i for i in range(len(labels)) if labels[i] == categories[k]]
            chosen = sorted(chosen, key=lambda i: -scores[i])[:100]
            ious = np.array([[overlap(tracks[i], y) for _, y in truth] for i in chosen])
            ious = ious.reshape(len(chosen), len(truth))
            outside = [not low <= mean_area(tracks[i]) <= high for i in chosen]
            taken = [match(chosen, objects, ious, ignored, t) for t in np.linspace(0.5, 0.95, 10)]
            for limit, column in columns.items():
                for d in range(min(limit, len(chosen))):
                    places = [x[d] for x in taken]
                    drop = [ignored[g] if g >= 0 else outside[d] for g in places]
                    column.append((scores[chosen[d]], [g >= 0 for g in places], drop))
        if not total:
            continue
        for m, column in enumerate(columns.values()):
            column.sort(key=lambda x: -x[0])
            for t in range(10):
                hits = np.array([x[1][t] for x in column if not x[2][t]], bool)
                found = np.cumsum(hits)
                precision = found / (np.arange(len(hits)) + 1 + np.spacing(1))
                precision = np.maximum.accumulate(precision[::-1])[::-1]
                where = np.searchsorted(found / total, np.linspace(0, 1, 101), side="left")
                area = AREAS.index((low, high))
                ap[area, m, t, k] = np.append(precision, 0)[where.clip(max=len(hits))].mean()
                ar[area, m, t, k] = found[-1] / total if len(hits) else 0

    def mean(values):
        return -1.0 if np.isnan(values).all() else float(np.nanmean(values))

    every = [ap[0, 2], ap[0, 2, 0], ap[0, 2, 5], *ap[1:, 2]]
    return np.array([mean(x) for x in [*every, *ar[0], *ar[1:, 2]]])


def evaluated(dataset, detections):
    metric = TrackAP(dataset)
    for video, columns in detections.items():
        metric.add(video, *columns)
    return metric.result()


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_the_official_rules(seed):
    dataset, masks, detections = make_videos(seed)
    expected = official(dataset, masks, detections)
    assert (expected > 0).all()
    np.testing.assert_allclose(numbers(evaluated(dataset, detections)), expected, rtol=1e-12)


def two_frames(**changes):
    """A video of two frames with an object of 10 x 10 pixels in the first one."""
    mask = np.zeros((2, 20, 20), bool)
    mask[0, :10, :10] = True
    track = {
        "id": 1,
        "video_id": 7,
        "category_id": 3,
        "segmentations": [encode_rle(mask[0]), None],
        "iscrowd": 0,
    }
    video = {"id": 7, "length": 2, "height": 20, "width": 20}
    categories = [{"id": 3, "name": "cat"}]
    content = {"videos": [video], "categories": categories, "annotations": [track | changes]}
    return content, mask


def test_a_frame_that_only_one_has_adds_to_the_union():
    dataset, mask = two_frames()
    assert evaluated(dataset, {7: (mask[None], [3], [0.5])}).ap == pytest.approx(1)
    longer = mask.copy()
    longer[1, :5, :10] = True  # 100 / 150 is above four of the ten overlaps
    assert evaluated(dataset, {7: (longer[None], [3], [0.5])}).ap == pytest.approx(0.4)
    assert evaluated(dataset, {7: (mask[None, ::-1], [3], [0.5])}).ap == 0


def test_more_masks_in_a_frame_than_pycocotools_takes_in_a_list():
    tracks = [[encode_rle(frame) for frame in two_frames()[1]]] * 256
    assert (track_overlaps(tracks, tracks[:1]) == 1).all()


def test_areas_are_means_over_the_frames_that_have_any():
    for side, both in ((128, ("aps", "apm")), (256, ("apm", "apl"))):  # borders belong to both
        dataset, mask = two_frames(areas=[side**2, 0])  # of the file, not of the masks
        result = evaluated(dataset, {7: (mask[None], [3], [0.5])})
        found = {name for name in ("aps", "apm", "apl") if getattr(result, name) > 0.99}
        assert found == set(both)
    assert CocoAnnotations.of_videos(two_frames()[0]).objects[0]["area"] == 100


def test_groups_are_left_out_and_take_several():
    dataset, mask = two_frames(iscrowd=1)
    dataset["annotations"].append(two_frames()[0]["annotations"][0] | {"id": 2})
    columns = np.array([mask, mask, mask]), [3, 3, 3], [0.9, 0.8, 0.7]
    result = evaluated(dataset, {7: columns})
    assert result.ap == pytest.approx(1)  # the second and third are matched with the group
    small = mask & (np.arange(20) < 4)  # all inside of the group, yet an overlap of 0.4
    result = evaluated(dataset, {7: (np.array([small, mask]), [3, 3], [0.9, 0.8])})
    assert result.ap == pytest.approx(0.5)


def test_saved_merged_and_encoded_it_is_the_same(tmp_path):
    dataset, _, detections = make_videos(1)
    whole = TrackAP(dataset, images="added")
    for number, (video, (tracks, labels, scores)) in enumerate(detections.items()):
        part = TrackAP(dataset, images="added")
        encoded = [[encode_rle(x) if x.any() else None for x in track] for track in tracks]
        part.add(video, encoded, labels, scores)
        path = tmp_path / f"{number}.npz"
        part.save(path)
        whole.merge(TrackAP.load(path, CocoAnnotations.of_videos(dataset)))
    expected = numbers(evaluated(dataset, detections))
    np.testing.assert_array_equal(numbers(whole.result()), expected)
    json.dumps(whole.result().to_json(), allow_nan=False)


def test_what_does_not_fit_is_refused():
    dataset, mask = two_frames()
    with pytest.raises(ValueError, match=r"video 7: the masks are bool of the shape \(1, 20, 20\)"):
        TrackAP(dataset).add(7, mask[:1], [3], [0.5])
    with pytest.raises(ValueError, match="video 7: a track has 1 frames, the video 2"):
        TrackAP(dataset).add(7, [[None]], [3], [0.5])
    with pytest.raises(ValueError, match="no video of this id"):
        TrackAP(dataset).add(8, mask[None], [3], [0.5])
    with pytest.raises(ValueError, match="TrackAP is computed by pycocotools, not by"):
        TrackAP(dataset, "hotcoco")
