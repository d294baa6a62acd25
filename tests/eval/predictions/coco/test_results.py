"""What is refused of COCO results before they are scored."""

import pytest
from m2f_jax.eval.predictions.coco import find_coco_predictions

from tests.eval.predictions.coco.case import BAD, GOOD, refused, result, score, write


@pytest.mark.parametrize("case", BAD)
def test_results_that_cannot_be_used(dataset, tmp_path, case):
    entry, message = BAD[case]
    refused(write(tmp_path / "found.json", [GOOD, entry]), dataset(), message)


def test_files_that_are_no_results(dataset, tmp_path):
    data = dataset()
    path = tmp_path / "found.json"
    refused(write(path, {"annotations": []}), data, "isn't a list of COCO results but holds an obj")
    path.write_text("[" * 100_000)
    refused(path, data, "nested too deeply")
    with pytest.raises(FileNotFoundError, match=r"predictions\.json is missing"):
        find_coco_predictions(tmp_path, "instance", data.images, data)


def test_all_faults_are_listed(dataset, tmp_path):
    entries = [result(k % 3, k % 3 + 1, score=None if k % 2 else 0.5) for k in range(30)]
    path = write(tmp_path / "found.json", entries)
    refused(path, dataset(), r"15 entries can't be used \(15 x score\); write the results anew:")


def test_polygons_are_drawn(dataset, tmp_path):
    polygon = [[5, 10, 35, 10, 35, 40, 5, 40]]
    path = write(tmp_path / "found.json", [result(0, 1, segmentation=polygon)])
    assert score(path, dataset()).per_category["cat"].ap50 > 0.4
