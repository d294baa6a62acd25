"""The model that comes with the package: small, the default, and better than chance."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import m2f_jax
from m2f_jax import Segmenter
from m2f_jax.cli import main
from m2f_jax.files import read_json
from m2f_jax.labels import CITYSCAPES
from m2f_jax.streets import street_scene
from m2f_jax.training.recipes import recipe

FOLDER = Path(m2f_jax.__file__).parent / "streets" / "model"
SIZE = (256, 512)


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_pretrained("streets", "float32")


def test_it_is_small_and_of_its_recipe(segmenter):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8 * 2**20
    assert segmenter.config == recipe("streets").train.model


def test_it_knows_streets_that_it_has_not_seen(segmenter):
    right, everywhere = {}, {}
    for index in range(4):
        scene = street_scene(5, index, SIZE)
        found = np.array([label.id for label in CITYSCAPES])[segmenter(scene.image, "semantic")]
        for label in CITYSCAPES:
            truth, guess = scene.label_ids == label.id, found == label.id
            right[label.name] = right.get(label.name, 0) + (truth & guess).sum()
            everywhere[label.name] = everywhere.get(label.name, 0) + (truth | guess).sum()
    for name in ("road", "sky", "building", "vegetation"):
        assert right[name] > 0.5 * everywhere[name], name


def test_a_folder_of_its_name_is_not_in_the_way(segmenter, tmp_path, monkeypatch):
    (tmp_path / "streets").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Segmenter.from_pretrained("streets", "float32").config == segmenter.config
    with pytest.raises(FileNotFoundError, match="streets has no config"):
        Segmenter.from_pretrained("./streets")


def test_it_is_the_default(tmp_path):
    Image.fromarray(street_scene(5, 0, (128, 256)).image).save(tmp_path / "street.png")
    assert main(["predict", str(tmp_path / "street.png"), "--out", str(tmp_path / "out")]) == 0
    [annotation] = read_json(tmp_path / "out" / "predictions.json")["annotations"]
    roads = [s for s in annotation["segments_info"] if s["category_id"] == CITYSCAPES[0].id]
    assert len(roads) == 1
