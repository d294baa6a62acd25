"""Images in any order, merged, saved and loaded."""

import json

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP

from tests.eval.metrics.cityscapes.conftest import ROAD, ids_of, load_golden, masks_of


def test_neither_order_nor_merging_matters():
    scenes, _ = load_golden()
    images = [
        image for scene in scenes if scene.images[0].distances is None for image in scene.images
    ]
    named = [(f"image {i}" if i % 3 else "", image) for i, image in enumerate(images)]

    def accumulate(chosen):
        metric = CityscapesInstanceAP()
        for name, image in chosen:
            image.add_to(metric, image=name)
        return metric

    whole = accumulate(named)
    halves = accumulate(named[::-2])
    halves.merge(accumulate(named[-2::-2]))
    assert len(whole) == len(halves) == len(images)
    one, other = whole.result(), halves.result()
    np.testing.assert_array_equal(one.ap_matrix, other.ap_matrix)
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())
    np.testing.assert_array_equal(one.image_counts().false, other.image_counts().false)
    assert one.image_counts().images == other.image_counts().images
    np.testing.assert_array_equal(one.calibration().mean_score, other.calibration().mean_score)


def test_save_and_load(tmp_path):
    scenes, _ = load_golden()
    metric, reversed_ = CityscapesInstanceAP(), CityscapesInstanceAP()
    scene = next(scene for scene in scenes if scene.images[0].distances and len(scene.images) > 1)
    for i, image in enumerate(scene.images):
        image.add_to(metric, image=f"straße {i}")
    for i, image in reversed(list(enumerate(scene.images))):
        image.add_to(reversed_, image=f"straße {i}")
    path = tmp_path / "tables"  # written under exactly this name
    metric.save(path)
    metric.save(path)
    reversed_.save(tmp_path / "reversed")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["reversed", "tables"]
    assert path.read_bytes() == (tmp_path / "reversed").read_bytes()
    loaded = CityscapesInstanceAP.load(path)
    assert len(loaded) == len(metric)
    assert json.dumps(loaded.result().to_json()) == json.dumps(metric.result().to_json())
    assert loaded.result().pool.images == [f"straße {i}" for i in range(len(metric))]
    with pytest.raises(ValueError, match="'straße 0' was added before"):
        loaded.merge(metric)

    CityscapesInstanceAP().save(path)
    assert len(CityscapesInstanceAP.load(path)) == 0


def test_files_that_are_none_of_ours(tmp_path):
    path = tmp_path / "tables.npz"
    with pytest.raises(FileNotFoundError):
        CityscapesInstanceAP.load(path)
    metric = CityscapesInstanceAP()
    ids = ids_of(26000, ROAD)
    metric.add(ids, masks_of(ids, (0, 10)), [26], [0.5])
    metric.save(path)
    content = path.read_bytes()
    for broken in (b"", b"no zip", content[: len(content) // 2], content[:-30]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"tables\.npz isn't a whole file of .*InstanceAP"):
            CityscapesInstanceAP.load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"array\.npy isn't a whole file"):
        CityscapesInstanceAP.load(tmp_path / "array.npy")
    np.savez(path, anything=np.zeros(3))
    with pytest.raises(ValueError, match="its format is unknown, and this version reads"):
        CityscapesInstanceAP.load(path)

    path.write_bytes(content)
    arrays = dict(np.load(path))
    version = str(arrays["format"])
    np.savez(path, **{**arrays, "format": version.replace("1", "2")})
    with pytest.raises(
        ValueError, match="is m2f_jax CityscapesInstanceAP 2, and this version reads"
    ):
        CityscapesInstanceAP.load(path)
    for name, array in (("table", arrays["table"][:-1]), ("scores", np.zeros(2))):
        np.savez(path, **{**arrays, name: array})
        with pytest.raises(ValueError, match="isn't a whole file"):
            CityscapesInstanceAP.load(path)
    arrays.pop("labels")
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="isn't a whole file"):
        CityscapesInstanceAP.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    metric = CityscapesInstanceAP()
    metric.save(tmp_path / "tables.npz")
    before = (tmp_path / "tables.npz").read_bytes()

    def fail(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        metric.save(tmp_path / "tables.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["tables.npz"]
    assert (tmp_path / "tables.npz").read_bytes() == before
