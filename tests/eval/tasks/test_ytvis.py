"""`m2f eval ytvis`: a model, and results in files, against a small set of videos."""

import json

import numpy as np
import pytest
from m2f_jax.eval import evaluate as score
from m2f_jax.eval.results.comparable import published_scores
from PIL import Image

from m2f_jax import ImageProcessor, VideoMask2Former
from m2f_jax.cli import main
from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.published.ytvis import ytvis_dataset
from m2f_jax.inference.video_segmenter import VideoSegmenter
from m2f_jax.masks.rle import encode_rle
from m2f_jax.presets import PRESETS
from tests.conftest import VIDEO_LABELS as LABELS

SIZE = (32, 64)
LENGTH = 3


@pytest.fixture
def root(tmp_path):
    """Two videos, with one object each that moves to the right."""
    videos, annotations = [], []
    rng = np.random.default_rng(0)
    for id_ in (1, 2):
        names, masks = [f"v{id_}/{t:05d}.jpg" for t in range(LENGTH)], []
        for t, name in enumerate(names):
            mask = np.zeros(SIZE, bool)
            mask[8:20, 10 + 5 * t : 30 + 5 * t] = True
            masks.append(mask)
            path = tmp_path / "root" / "valid" / "JPEGImages" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 80, (*SIZE, 3)) + 150 * mask[..., None]
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        sides = dict(zip(("height", "width"), SIZE, strict=True))
        videos.append({"id": id_, **sides, "length": LENGTH, "file_names": names})
        annotations.append(
            {
                "id": id_,
                "video_id": id_,
                "category_id": LABELS[id_ - 1].id,
                "segmentations": [encode_rle(mask) for mask in masks],
                "iscrowd": 0,
            }
        )
    content = {
        "videos": videos,
        "categories": [{"id": label.id, "name": label.name} for label in LABELS],
        "annotations": annotations,
    }
    (tmp_path / "root" / "valid.json").write_text(json.dumps(content))
    return tmp_path / "root"


def evaluate(root, *arguments):
    return main(["eval", "ytvis", str(root), *map(str, arguments)])


def write_empty(folder):
    """Writes an annotation file of images in COCO's format, of which there are none."""
    path = folder / "coco.json"
    path.write_text(json.dumps({"images": [], "categories": [], "annotations": []}))
    return path


def results_of(root):
    """The ground truth as results."""
    content = json.loads((root / "valid.json").read_text())
    return [
        {key: x[key] for key in ("video_id", "category_id", "segmentations")} | {"score": 0.5}
        for x in content["annotations"]
    ]


def test_a_model_and_its_exported_results_score_the_same(root, video_model, tmp_path, capsys):
    out, export = tmp_path / "out", tmp_path / "export"
    arguments = ["--model", video_model, "--out", out, "--export", export]
    assert evaluate(root, *arguments) == 0
    first = json.loads((out / "results.json").read_text())
    assert "128 x 128" in (out / "report.html").read_text()
    entries = json.loads((export / "predictions.json").read_text())
    assert {x["video_id"] for x in entries} == {1, 2}
    assert len(entries) == 2 * 10
    capsys.readouterr()

    assert evaluate(root, *arguments) == 0
    assert "2 of 2 videos are done already" in capsys.readouterr().err
    frame = next((root / "valid" / "JPEGImages" / "v2").iterdir())
    whole = frame.read_bytes()
    frame.write_bytes(whole[:40])
    assert evaluate(root, *arguments) == 1
    assert "1 of 2 videos failed" in capsys.readouterr().err
    frame.write_bytes(whole)
    file, again = export / "predictions.json", tmp_path / "again"
    assert evaluate(root, "--predictions", file, "--out", again) == 0
    assert json.loads((again / "results.json").read_text())["official"] == first["official"]


def test_the_segmenter_is_the_model_with_its_processor(root, video_model):
    processor = ImageProcessor()
    frames = sorted((root / "valid" / "JPEGImages" / "v1").iterdir())
    network = VideoMask2Former.from_pretrained(video_model)
    batch = processor.video_batch(frames)
    [expected] = processor.post_process_video_instance_segmentation(
        network(batch.pixel_values), batch.sizes
    )
    segmenter = VideoSegmenter(network, processor)
    with pytest.raises(ValueError, match="videos are scored with a VideoSegmenter, and images"):
        score(segmenter, coco_dataset(write_empty(root), root, "instance"))
    found = segmenter(frames)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert (found.masks != expected.masks).mean() < 1e-3
    threshold = float(found.scores[3])
    assert len(segmenter(frames, threshold=threshold)) == 4
    small = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=r"frame 3 is 40 x 40 .* and frame 0 32 x 64"):
        segmenter([*frames, small])


def test_the_ground_truth_scores_100(root, tmp_path, capsys):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results_of(root)))
    assert evaluate(root, "--predictions", file) == 0
    assert "AP 100.0, AP50 100.0, AP75 100.0, APs 100.0, APm -" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_id": 5}, "entry 1: video_id is 5, which isn't the id of one of the videos"),
        ({"category_id": 1}, "entry 1: category_id is 1, which isn't the id of one of"),
        ({"score": "high"}, "entry 1: score is the text 'high'"),
        ({"segmentations": [None]}, "entry 1: segmentations has 1 entries, but video 2 has 3"),
        (
            {"segmentations": [None, {"size": [*SIZE], "counts": "1"}, None]},
            "entry 1: segmentations[1]: the run lengths add up to 1",
        ),
    ],
)
def test_results_that_cannot_be_used_are_named(root, tmp_path, capsys, changes, message):
    results = results_of(root)
    results[1] |= changes
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    assert evaluate(root, "--predictions", file) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"m2f: {file}: {message}")
    assert error.count("\n") == 1


def test_what_cannot_be_scored_is_refused(root, tmp_path, capsys):
    def refused(*arguments):
        assert evaluate(*arguments) == 1
        return capsys.readouterr().err

    assert "name a model of videos with --model, or results" in refused(root)
    assert "is a Mask2Former, not a VideoMask2Former" in refused(root, "--model", "streets")
    assert "has no split 'train' of YouTubeVIS; expected" in refused(root, "--split", "train")
    hint = "has no split 'valid' of YouTubeVIS; root/ has it, name that"
    assert hint in refused(root.parent)
    assert "is missing; expected a file of" in refused(
        root, "--predictions", tmp_path / "none.json"
    )


def test_published_scores_are_of_the_labels_that_nobody_has(root, tmp_path):
    name = "resnet50-youtubevis-2019-instance"
    config = PRESETS[name].config
    processor = ImageProcessor.for_model(config)
    dataset = ytvis_dataset(root)
    found = published_scores(config, processor, dataset, "instance", 2, source=name)
    assert "is of the 302 validation videos of YouTubeVIS 2019, and this is of 2" in found.problem
    assert published_scores(config, processor, dataset, "instance", 302, source=name).scores
    images = coco_dataset(write_empty(tmp_path), tmp_path, "instance")
    found = published_scores(config, processor, images, "instance", 302, source=name)
    assert "by the rules of another data set" in found.problem
