"""A published data set from training to the report, by commands."""

import json

from m2f_jax.cli import main
from m2f_jax.config import Mask2FormerConfig
from m2f_jax.labels import numbered
from m2f_jax.plain import to_plain
from m2f_jax.training.augment import random_crops
from m2f_jax.training.config import LossConfig, TrainConfig
from m2f_jax.training.recipes import Recipe
from tests.datasets.trees import ade20k_tree


def test_ade20k_is_trained_on_and_evaluated_on(toys, tmp_path, capsys):
    root, out = ade20k_tree(tmp_path), tmp_path / "out"
    model = Mask2FormerConfig(labels=numbered(1), task="semantic", **toys)
    recipe = Recipe(
        train=TrainConfig(model=model, steps=2, loss=LossConfig(num_points=16)),
        augmentation=random_crops((32, 32), 32, 64),
        batch_size=2,
        max_segments=4,
    )
    (tmp_path / "recipe.json").write_text(json.dumps(to_plain(recipe)))
    data = ["--data", str(root), "--out", str(out), "--evaluate-every", "2"]
    assert main(["train", str(tmp_path / "recipe.json"), *data]) == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    [score] = [line["mIoU"] for line in lines if "mIoU" in line]

    report = ["--model", str(out / "model"), "--out", str(tmp_path / "report")]
    assert main(["eval", "ade20k", str(root), *report]) == 0
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["scores"] == {"mIoU": score}
    assert results["official"]["labels"]["flag"] == 149
    assert "annotations_detectron2" in (tmp_path / "report" / "report.html").read_text()

    assert main(["eval", "ade20k-full", str(root), *report]) == 1
    message = "validation is missing; The full ADE20K is expected as images_detectron2/{training"
    assert message in " ".join(capsys.readouterr().err.split())
