"""Draws small scenes, and records what TIDE's own package says of them.

python -m tests.eval.analysis.record_tide writes tests/golden/tide.json; it needs tidecv 1.0.1 and
what that imports (appdirs, matplotlib, opencv, pandas, seaborn).
"""

import json

import numpy as np
import pycocotools.mask as coco_mask

from m2f_jax.masks.rle import encode_rle
from tests.conftest import GOLDEN

FILE = GOLDEN / "tide.json"
SIZE = (36, 48)
KINDS = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}


def rectangle(rng):
    """Top, left, height and width within the image, not small."""
    height, width = rng.integers(6, 24, 2)
    return int(rng.integers(0, SIZE[0] - 5)), int(rng.integers(0, SIZE[1] - 5)), height, width


def mask_of(top, left, height, width):
    mask = np.zeros(SIZE, bool)
    mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    return mask


def draw_scene(seed, most_predictions=5):
    """A data set and results in COCO's format; the last category has no object."""
    rng = np.random.default_rng(seed)
    categories = [3, 7, 8, 20]
    annotations, results = [], []
    for image in (4, 9, 11):
        for _ in range(rng.integers(0, 6)):
            box, category = rectangle(rng), int(rng.choice(categories[:-1]))
            mask = mask_of(*box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "segmentation": encode_rle(mask),
                    "area": int(mask.sum()),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            for _ in range(rng.integers(0, most_predictions)):
                shift = rng.integers(-9, 10, 4) * (rng.random() < 0.7)
                found = mask_of(*(np.array(box) + shift))
                if found.any():
                    results.append(
                        {
                            "image_id": image,
                            "category_id": int(
                                category if rng.random() < 0.7 else rng.choice(categories)
                            ),
                            "segmentation": encode_rle(found),
                            "score": float(rng.integers(1, 20)) / 20,  # with ties
                        }
                    )
    dataset = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in (4, 9, 11)],
        "categories": [{"id": i, "name": f"category {i}"} for i in categories],
        "annotations": annotations,
    }
    return {"dataset": dataset, "results": results}


def tide_numbers(scene, shape):
    """AP, gains and counts as tidecv has them; in percent."""
    from tidecv import TIDE, Data

    truth, found = Data("truth"), Data("found")
    for image in scene["dataset"]["images"]:
        truth.add_image(image["id"], str(image["id"]))
    for one in scene["dataset"]["annotations"]:
        rle = one["segmentation"]
        add = truth.add_ignore_region if one["iscrowd"] else truth.add_ground_truth
        add(one["image_id"], one["category_id"], list(coco_mask.toBbox(rle)), rle)
    for one in scene["results"]:
        rle = one["segmentation"]
        box = list(coco_mask.toBbox(rle))
        found.add_detection(one["image_id"], one["category_id"], one["score"], box, rle)
    tide = TIDE(mode={"mask": TIDE.MASK, "box": TIDE.BOX}[shape])
    run = tide.evaluate(truth, found, name="run")
    errors = tide.get_all_errors()
    counts = {error.short_name: number for error, number in run.count_errors().items()}
    return {
        "AP50": run.ap,
        "gains": {ours: errors["main"]["run"][theirs] for ours, theirs in KINDS.items()},
        "counts": {ours: counts[theirs] for ours, theirs in KINDS.items()},
        "without false positives": errors["special"]["run"]["FalsePos"],
        "without false negatives": errors["special"]["run"]["FalseNeg"],
    }


if __name__ == "__main__":
    scenes = [draw_scene(seed) for seed in range(12)] + [draw_scene(50, most_predictions=90)]
    for drawn in scenes:
        drawn["tide"] = {shape: tide_numbers(drawn, shape) for shape in ("mask", "box")}
    FILE.write_text(json.dumps(scenes) + "\n")
