"""Draws small scenes in LVIS's format, and records what its own package says of them.

python tests/eval/metrics/coco/record_lvis.py writes tests/golden/lvis.json; it needs lvis 0.5.3
with pycocotools and numpy 1 (1.23, or any later one with the line below), and nothing of this
package.

Boundary AP is by the same package, with overlaps as Cheng et al. (CVPR 2021) define them.
"""

import json
import logging
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask

FILE = Path(__file__).parents[3] / "golden" / "lvis.json"
CROWDED = (48, 48)
MANY = 330  # detections of an image, of which 300 count


def rle_of(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def draw_mask(rng, height, width):
    """A rectangle with a hole; sometimes nothing."""
    mask = np.zeros((height, width), bool)
    top, left = rng.integers(0, height), rng.integers(0, width)
    mask[top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)] = True
    mask[top + 2 : top + 6, left + 2 : left + rng.integers(3, 9)] = False
    return mask & (rng.random() < 0.96)


def draw_scene(seed, most=18, crowded=False):
    """A data set and results; the last category has no object, and scores have ties."""
    rng = np.random.default_rng(seed)
    ids = sorted(rng.choice(1203, 7, replace=False).tolist())
    categories = [
        {"id": id_, "name": f"category {id_}", "frequency": str(rng.choice(["r", "c", "f"]))}
        for id_ in ids
    ]
    images, annotations, results = [], [], []
    for image in rng.choice(1000, 1 if crowded else 4, replace=False).tolist():
        height, width = CROWDED if crowded else rng.integers(20, 260, 2).tolist()
        objects = []
        for _ in range(30 if crowded else rng.integers(0, 7)):
            mask, category = draw_mask(rng, height, width), int(rng.choice(ids[:-1]))
            objects.append((mask, category))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "segmentation": rle_of(mask),
                    "area": float(mask.sum()),
                    "iscrowd": int(crowded and rng.random() < 0.2),  # which LVIS takes no notice of
                }
            )
        present = {category for _, category in objects}
        others = [id_ for id_ in ids if id_ not in present]
        images.append(
            {
                "id": image,
                "height": height,
                "width": width,
                "coco_url": f"http://images.cocodataset.org/val2017/{image:012}.jpg",
                "neg_category_ids": [id_ for id_ in others if rng.random() < 0.4],
                "not_exhaustive_category_ids": [
                    id_ for id_ in ids if rng.random() < (0.4 if id_ in present else 0.1)
                ],
            }
        )
        for _ in range(MANY if crowded else rng.integers(0, most)):
            mask, category = draw_mask(rng, height, width), int(rng.choice(ids))
            if objects and rng.random() < 0.7:
                mask, category = objects[rng.integers(0, len(objects))]
                mask = np.roll(mask, rng.integers(-3, 4, 2).tolist(), (0, 1))
            results.append(
                {
                    "image_id": image,
                    "category_id": category if rng.random() < 0.8 else int(rng.choice(ids)),
                    "segmentation": rle_of(mask),
                    "score": float(np.round(rng.random(), 2 if crowded else 1)),
                }
            )
    dataset = {"images": images, "categories": categories, "annotations": annotations}
    return {
        "dataset": dataset,
        "results": [results[k] for k in rng.permutation(len(results)).tolist()],
    }


def rim_of(rle):
    """The boundary of a mask: where a square of 2 % of the image's diagonal leaves it."""
    mask = coco_mask.decode(rle).astype(bool)
    reach = max(round(0.02 * np.hypot(*mask.shape)), 1)
    padded = np.pad(mask, reach)
    inner = np.ones_like(mask)
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            inner &= padded[y : y + mask.shape[0], x : x + mask.shape[1]]
    return rle_of(mask & ~inner)


def lvis_numbers(scene, overlaps):
    """The package's thirteen numbers, with overlaps of masks by this function."""
    import lvis.eval
    from lvis import LVIS, LVISEval, LVISResults

    np.float = float  # which it asks for
    logging.disable(logging.CRITICAL)
    truth = LVIS.__new__(LVIS)
    truth.logger = logging.getLogger("lvis")
    truth.dataset = json.loads(json.dumps(scene["dataset"]))
    truth._create_index()
    results = LVISResults(truth, json.loads(json.dumps(scene["results"])))
    plain = lvis.eval.mask_utils.iou
    lvis.eval.mask_utils.iou = overlaps
    try:
        evaluation = LVISEval(truth, results)
        evaluation.run()
    finally:
        lvis.eval.mask_utils.iou = plain
    return {name: float(number) for name, number in evaluation.results.items()}


def smaller_overlaps(masks, others, crowds, plain=coco_mask.iou):
    """The smaller ones of the overlaps of masks and of their boundaries."""
    if not masks or not others:
        return []
    rims = [rim_of(one) for one in masks], [rim_of(one) for one in others]
    return np.minimum(plain(masks, others, crowds), plain(*rims, crowds))


if __name__ == "__main__":
    scenes = [draw_scene(seed) for seed in range(1, 9)] + [draw_scene(14, crowded=True)]
    for drawn in scenes:
        drawn["lvis"] = lvis_numbers(drawn, coco_mask.iou)
        drawn["boundary"] = lvis_numbers(drawn, smaller_overlaps)
    FILE.write_text(json.dumps(scenes) + "\n")
