"""Files in YouTubeVIS's format, results, and the clips that `m2f predict --video` keeps."""

import json
import math

import numpy as np
import pycocotools.mask as coco_mask
from hypothesis import strategies as st
from m2f_jax.eval.metrics.coco.annotations import CocoAnnotations
from m2f_jax.eval.predictions.ytvis_results import TrackResults
from m2f_jax.eval.tasks import evaluation_of

from m2f_jax.cli.predicting.video import stored
from m2f_jax.datasets.coco_format.tracks import read_video_file
from m2f_jax.datasets.published.ytvis import ytvis_dataset
from m2f_jax.inference.clips import Clip, TrackJoiner
from tests.fuzz.targets import fuzz, refused_by_name
from tests.fuzz.test_coco import OUTLINES, RLE, SIZE, VALUES, spoilt, written

TRACK = [OUTLINES[0], None, OUTLINES[1]]
TRUTH = {
    "videos": [
        {"id": k, "height": 12, "width": 16, "length": 3, "file_names": [f"{t}.png"] * 3}
        for k, t in ((1, 0), (2, 1))
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": k, "video_id": k, "category_id": k, "iscrowd": 0, "segmentations": TRACK}
        | {"areas": [63, None, 63]}
        for k in (1, 2)
    ],
}
RESULTS = [
    {"video_id": k, "category_id": k, "segmentations": TRACK, "score": 0.5} for k in (1, 2, 2)
]
CLIP = {
    "size": [*SIZE],
    "scores": [0.5, 0.75],
    "labels": [0, 1],
    "counts": [[RLE["counts"], ""], ["", ""]],
}


@fuzz(spoilt(TRUTH))
def test_annotation_files(content, folder):
    path = written(content, folder / "truth.json")
    with refused_by_name(path):
        read_video_file(path)
    file = None
    with refused_by_name(path):
        file = read_video_file(path, "skip")
    if file is not None:
        for found in CocoAnnotations.of_videos(file).objects:
            assert math.isfinite(found["area"])
            for mask in filter(None, found["segmentation"]):
                height, width = mask["size"]
                assert 0 <= coco_mask.area(mask) <= height * width


@fuzz(st.one_of(spoilt(RESULTS), VALUES))
def test_results(content, folder):
    dataset = ytvis_dataset(written(TRUTH, folder / "truth.json"))
    path = written(content, folder / "found.json")
    with refused_by_name(path):
        files = TrackResults.find(path, dataset)
        evaluation = evaluation_of(dataset, "instance")
        metric = evaluation.empty()
        for index, item in enumerate(dataset.images):
            metric.merge(evaluation.count(index, None, files.read(item)))
        assert 0 <= metric.result().ap <= 1


@fuzz(st.one_of(spoilt(CLIP), VALUES))
def test_kept_clips(content, folder):
    clip = Clip(0, [np.zeros((*SIZE, 3), np.uint8)] * 2, 0)
    path = folder / "00000000.json"
    path.write_text(json.dumps(content))
    with refused_by_name(path):
        found = stored(path, clip, 2)
        joiner = TrackJoiner()
        joiner.add(clip, found)
        joiner.add(Clip(1, clip.frames, 1), found)
        assert found.frame(0)[0].masks.shape[1:] == SIZE
