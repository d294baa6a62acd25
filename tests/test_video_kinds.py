"""What is refused between models of images and of videos, and how both are saved and read."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from m2f_jax.convert import convert, open_checkpoint
from PIL import Image

from m2f_jax import Mask2Former, VideoMask2Former
from m2f_jax.cli import main
from m2f_jax.cli.commands.info import measure
from m2f_jax.config import ModelConfig, VideoMask2FormerConfig
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import YOUTUBEVIS_2019
from m2f_jax.modeling.model import check_pixel_values
from m2f_jax.modeling.parameters import abstract_model, parameters
from m2f_jax.presets import PRESETS, preset
from m2f_jax.pretrained import load
from m2f_jax.structures import ImageSize, Predictions
from tests.conftest import MICRO

PARTS = {name: getattr(MICRO, name) for name in ("backbone", "pixel_decoder", "decoder")}
CONFIG = VideoMask2FormerConfig(labels=MICRO.labels, **PARTS)


@pytest.fixture
def folder(video, tmp_path):
    video.model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_saved_and_loaded(video, folder):
    again = VideoMask2Former.from_pretrained(folder)
    assert again.config == video.model.config
    assert json.loads((folder / "config.json").read_text())["type"] == "video_mask2former"
    theirs = parameters(again)
    for name, value in parameters(video.model).items():
        np.testing.assert_array_equal(theirs[name][...], value[...])
    assert isinstance(load(folder).model, VideoMask2Former)


def test_a_video_model_is_not_opened_as_one_of_images(folder, micro, tmp_path):
    with pytest.raises(ValueError, match=r"is a VideoMask2Former, not a Mask2Former; open it with"):
        Mask2Former.from_pretrained(folder)
    micro.save_pretrained(tmp_path / "images")
    with pytest.raises(ValueError, match=r"is a Mask2Former, not a VideoMask2Former; open it with"):
        VideoMask2Former.from_pretrained(tmp_path / "images")


def test_an_authors_file_is_of_videos_where_the_class_says_so(video, tmp_path):
    file = video.folder / "model_final.pkl"
    assert isinstance(video.model, VideoMask2Former)
    assert not isinstance(open_checkpoint(file).config, VideoMask2FormerConfig)
    assert main(["convert", str(file), str(tmp_path / "a"), "--kind", "video_mask2former"]) == 0
    assert ModelConfig.load(tmp_path / "a" / "config.json") == video.model.config


def test_no_form_for_transformers(folder, tmp_path):
    with pytest.raises(ValueError, match="transformers has no class for a VideoMask2Former"):
        convert(folder, tmp_path / "hf", "huggingface")
    assert not (tmp_path / "hf").exists()


def test_a_published_name_tells_videos(video, tmp_path, monkeypatch):
    name = "resnet50-youtubevis-2019-instance"
    published = dataclasses.replace(preset(name), config=video.model.config)
    monkeypatch.setitem(PRESETS, name, published)
    file = tmp_path / "model_final_34112b.pkl"
    file.write_bytes((video.folder / "model_final.pkl").read_bytes())
    with pytest.raises(ValueError, match="is a VideoMask2Former, not a Mask2Former"):
        open_checkpoint(file, kind=type(MICRO))
    assert isinstance(open_checkpoint(file).config, VideoMask2FormerConfig)


def test_labels_of_youtubevis_and_the_test_size():
    config = preset("swin-tiny-youtubevis-2019-instance").config
    assert config.labels == YOUTUBEVIS_2019
    processor = ImageProcessor.for_model(config)
    assert (processor.shortest_edge, processor.longest_edge) == (480, 1333)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 40, 50, 3), r"expected \[batch, frames, height, width, 3\] \(add a batch axis"),
        ((1, 2, 3, 40, 50), r"\(1, 2, 3, 40, 50\).*channels-first"),
        ((1, 2, 31, 40, 3), "31 x 40; both sides must be at least 32"),
    ],
)
def test_other_inputs_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        check_pixel_values(np.zeros(shape, np.float32), VideoMask2Former.batch_axes)


def test_models_of_images_refuse_clips():
    with pytest.raises(ValueError, match="clips are for VideoMask2Former"):
        check_pixel_values(np.zeros((1, 2, 40, 50, 3), np.float32), Mask2Former.batch_axes)
    with pytest.raises(ValueError, match="a VideoMask2Former takes clips, not images"):
        Segmenter(abstract_model(CONFIG), ImageProcessor())


def test_predictions_of_the_other_kind_are_refused():
    processor, sizes = ImageProcessor(), [ImageSize((32, 32), (32, 32), (32, 32))]
    of_image = Predictions(np.zeros((1, 2, 3)), np.zeros((1, 2, 8, 8)))
    of_clip = Predictions(np.zeros((1, 2, 3)), np.zeros((1, 2, 4, 8, 8)))
    with pytest.raises(ValueError, match="those of images; a video model's are"):
        processor.post_process_video_instance_segmentation(of_image, sizes)
    with pytest.raises(ValueError, match="use post_process_video_instance_segmentation"):
        processor.post_process_panoptic_segmentation(of_clip, sizes)
    with pytest.raises(ValueError, match="one of each per image or video"):
        processor.post_process_video_instance_segmentation(of_clip, sizes * 2)


def test_frames_of_two_sizes_are_refused(tmp_path):
    frames = [np.zeros((40, 50, 3), np.uint8)] * 2 + [np.zeros((50, 40, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"frame 2 is 50 x 40 \(height x width\), and frame 0 40"):
        ImageProcessor().video_batch(frames)
    frames[2] = tmp_path / "2.png"
    Image.new("RGB", (40, 50)).save(frames[2])
    with pytest.raises(ValueError, match=rf"^{frames[2]} is 50 x 40 \(height x width\), and frame"):
        ImageProcessor().video_batch(frames)


def test_a_recipe_of_videos_is_refused_by_train(tmp_path, capsys):
    name = "swin-tiny-youtubevis-2019-instance"
    out = str(tmp_path / "out")
    assert main(["train", name, "--data", str(tmp_path), "--out", out]) == 1
    assert f"{name} is a model of videos, and m2f train reads" in capsys.readouterr().err


def test_info_tells_videos(capsys):
    assert main(["info", "resnet50-youtubevis-2021-instance", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["architecture"] == "video_mask2former"
    assert facts["config"]["type"] == "video_mask2former"
    assert facts["published scores (%)"] == {"AP": 40.6}
    assert main(["models", "youtubevis", "2021", "swin", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_memory_of_two_frames():
    assert measure(CONFIG, (32, 64))["clip"] == [2, 32, 64]


def test_a_published_model_in_bfloat16():
    model = abstract_model(preset("resnet50-youtubevis-2019-instance").config, "bfloat16")
    clips = jax.ShapeDtypeStruct((2, 3, 97, 131, 3), np.float32)
    predictions = jax.eval_shape(lambda model, x: model(x), model, clips)
    shapes = [(x.shape, x.dtype.name) for x in predictions]
    assert shapes == [((2, 100, 41), "float32"), ((2, 100, 3, 25, 33), "float32")]
