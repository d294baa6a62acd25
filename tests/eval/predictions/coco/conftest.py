"""The ground truth as a data set."""

import pytest

from m2f_jax.datasets.coco import coco_dataset
from tests.eval.predictions.coco.case import content_of, write


@pytest.fixture
def dataset(tmp_path):
    def make(task="instance", **options):
        path = write(tmp_path / "truth.json", content_of(**options))
        return coco_dataset(path, tmp_path / "images", task)

    return make
