import json

import numpy as np
import pytest
from m2f_jax.eval.metrics.boundary import boundary
from skimage.morphology import erosion

from m2f_jax.cli import main
from tests.eval.analysis.record_tide import draw_scene


def by_definition(mask, ratio=0.02):
    """A pixel is on the boundary if its square leaves the mask or the image."""
    height, width = mask.shape
    reach = max(round(ratio * np.hypot(height, width)), 1)
    padded = np.pad(mask, reach)
    rim = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        rim[y, x] = not padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1].all()
    return rim


def drawn_masks():
    rng = np.random.default_rng(0)
    for height, width in ((20, 30), (90, 120), (1, 7), (130, 60)):
        mask = np.zeros((height, width), bool)
        mask[height // 4 :, : width // 2] = True
        yield mask & (rng.random(mask.shape) < 0.998)
        yield np.ones_like(mask)
        yield np.zeros_like(mask)


def test_boundaries_are_those_of_the_definition():
    for mask in drawn_masks():
        np.testing.assert_array_equal(boundary(mask), by_definition(mask))
        for ratio in (0.005, 0.3):
            np.testing.assert_array_equal(boundary(mask, ratio), by_definition(mask, ratio))


def test_boundaries_are_those_of_the_authors_erosion():
    for mask in drawn_masks():
        eroded = np.pad(mask, 1)
        for _ in range(max(round(0.02 * np.hypot(*mask.shape)), 1)):
            eroded = erosion(eroded, np.ones((3, 3)))
        np.testing.assert_array_equal(boundary(mask), mask & ~eroded[1:-1, 1:-1])


def test_boundary_ap_is_pycocotools_ap_of_the_smaller_overlaps(tmp_path, monkeypatch, capsys):
    import pycocotools.mask as coco_mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from m2f_jax.masks.rle import decode_rle, encode_rle

    scene = draw_scene(50, most_predictions=9)
    for image in scene["dataset"]["images"]:
        image["file_name"] = f"{image['id']}.png"
    for name in ("dataset", "results"):
        (tmp_path / f"{name}.json").write_text(json.dumps(scene[name]))
    paths = [str(tmp_path / name) for name in ("dataset.json", "results.json", "out")]
    options = ["--predictions", paths[1], "--boundary"]
    assert main(["eval", "coco", paths[0], *options]) == 0
    printed = capsys.readouterr().out
    assert main(["eval", "coco", paths[0], *options, "--out", paths[2]]) == 0
    assert capsys.readouterr().out == printed
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())
    results = json.loads((tmp_path / "out" / "results.json").read_text())

    plain = coco_mask.iou

    def smaller(masks, others, crowds):
        if not masks or not others:
            return []
        rims = [
            [
                encode_rle(
                    by_definition(
                        decode_rle(
                            one["counts"]
                            if isinstance(one["counts"], bytes)
                            else one["counts"].encode(),
                            tuple(one["size"]),
                        )
                    )
                )
                for one in group
            ]
            for group in (masks, others)
        ]
        return np.minimum(plain(masks, others, crowds), plain(*rims, crowds))

    truth = COCO(paths[0])
    evaluation = COCOeval(truth, truth.loadRes(scene["results"]), "segm")
    monkeypatch.setattr(coco_mask, "iou", smaller)
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        step()
    want = (100 * evaluation.stats[:3]).tolist()
    names = ["Boundary AP", "Boundary AP50", "Boundary AP75"]
    assert [results["scores"][name] for name in names] == pytest.approx(want, abs=1e-9)
    assert 100 * results["boundary"]["AP"] == results["scores"]["Boundary AP"]
    assert f"Boundary AP {want[0]:.1f}, Boundary AP50 {want[1]:.1f}" in printed
    assert "boundaries of 2 % of the image's diagonal" in printed
    assert found["boundary"]["value"] == pytest.approx(want[0], abs=1e-9)
    assert found["boundary"]["low"] <= found["boundary"]["value"] <= found["boundary"]["high"]
    assert 0 < found["boundary"]["value"] < found["value"]
    per_class = [row["Boundary AP"] for row in found["classes"]]
    assert np.mean([ap for ap in per_class if ap is not None]) == pytest.approx(want[0])
    assert {"F1", "F1 by boundaries"} < set(found["images"][0])
