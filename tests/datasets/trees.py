"""Tiny trees in the layouts of the published data sets: one or two images of 24 x 32 pixels."""

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
from PIL import Image

from m2f_jax.labels import ADE20K, MAPILLARY_VISTAS

SIZE = (24, 32)


def save(path: Path, pixels: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(path: Path, seed: int = 0):
    rng = np.random.default_rng(seed)
    save(path, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def save_json(path: Path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def rgb(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def halves(left: int, right: int, nothing: int, dtype=np.uint8) -> np.ndarray:
    """Two classes side by side, and a row of nothing at the bottom."""
    pixels = np.full(SIZE, left, dtype)
    pixels[:, 16:] = right
    pixels[-1] = nothing
    return pixels


def panoptic_file(path: Path, name: str, ids: np.ndarray, categories, classes: dict[int, int]):
    """A panoptic file of one image, whose ids are text as in ADE20K and Mapillary Vistas."""
    segments = [
        {
            "id": id_,
            "category_id": category,
            "area": int((ids == id_).sum()),
            "bbox": [0, 0, 1, 1],
            "iscrowd": 0,
        }
        for id_, category in classes.items()
    ]
    save_json(
        path,
        {
            "images": [
                {"id": name, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
            ],
            "annotations": [
                {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
            ],
            "categories": categories,
        },
    )


def two_beds() -> np.ndarray:
    """A panoptic map: wall (1), two beds (2 and 3) on it, and a row of nothing."""
    ids = np.full(SIZE, 1)
    ids[4:12, 4:12], ids[4:20, 16:28], ids[-1] = 2, 3, 0
    return ids


def ade20k_tree(root: Path, splits=("train", "val")) -> Path:
    """ADEChallengeData2016: wall (0) beside bed (7), and for objects two beds before a wall.

    The names are those of the authors' files: "window " in the panoptic one, and others than the
    models' in the one of objects.
    """
    root = root / "ADEChallengeData2016"
    ids = two_beds()
    for split, folder in (("train", "training"), ("val", "validation")):
        if split not in splits:
            continue
        for k in (1, 2):
            name = f"ADE_{split}_{k:08d}"
            picture(root / "images" / folder / f"{name}.jpg", k)
            maps = halves(0, 7, 255)
            save(root / "annotations_detectron2" / folder / f"{name}.png", maps)
            save(root / "annotations" / folder / f"{name}.png", maps + 1)
        name = f"ADE_{split}_{1:08d}"
        categories = [
            {
                "id": label.id,
                "name": "window " if label.name == "window" else label.name,
                "isthing": int(label.is_thing),
                "color": [0, 0, 0],
            }
            for label in ADE20K
        ]
        file = root / f"ade20k_panoptic_{split}.json"
        panoptic_file(file, name, ids, categories, {1: 0, 2: 7, 3: 7})
        save(root / f"ade20k_panoptic_{split}" / f"{name}.png", rgb(ids))
        objects = []
        for id_ in (2, 3):
            rle = coco_mask.encode(np.asfortranarray(ids == id_, np.uint8))
            objects.append(
                {
                    "id": id_ - 1,
                    "image_id": name,
                    "category_id": 7,
                    "iscrowd": 0,
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": int(coco_mask.area(rle)),
                    "segmentation": rle | {"counts": rle["counts"].decode()},
                }
            )
        image = {"id": name, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
        names = [{"id": 7, "name": "bed"}, {"id": 8, "name": "windowpane"}]
        content = {"images": [image], "categories": names, "annotations": objects}
        save_json(root / f"ade20k_instance_{split}.json", content)
    return root


def ade20k_full_tree(root: Path) -> Path:
    """ADE20K_2021_17_01: tree (3) beside the last class (846), in TIFFs of 16 bits."""
    root = root / "ADE20K_2021_17_01"
    for split, folder in (("train", "training"), ("val", "validation")):
        name = f"ADE_{split}_00000001"
        picture(root / "images_detectron2" / folder / f"{name}.jpg")
        maps = halves(3, 846, 65_535, np.uint16)
        save(root / "annotations_detectron2" / folder / f"{name}.tif", maps)
    return root


def mapillary_tree(root: Path, version: str = "") -> Path:
    """Vistas 1.2: Road (13) beside Car (55) with a palette; the objects of `two_beds` are cars."""
    root = root / "mapillary_vistas"
    ids = two_beds()
    for folder in ("training", "validation"):
        name = "0035fkbjWljhaftpVM37-g"
        picture(root / folder / "images" / f"{name}.jpg")
        coloured = Image.fromarray(halves(13, 55, 65))
        coloured.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
        truth = root / folder / version
        (truth / "labels").mkdir(parents=True)
        coloured.save(truth / "labels" / f"{name}.png")
        categories = [
            {"id": label.id, "name": label.name, "isthing": int(label.is_thing)}
            for label in MAPILLARY_VISTAS
        ]
        panoptic = truth / "panoptic"
        panoptic_file(panoptic / "panoptic_2018.json", name, ids, categories, {1: 14, 2: 56, 3: 56})
        save(panoptic / f"{name}.png", rgb(ids))
    return root


def coco_stuff_tree(root: Path) -> Path:
    """coco_stuff_10k: person (0) beside wood (170)."""
    root = root / "coco_stuff_10k"
    for folder in ("train", "test"):
        name = "COCO_train2014_000000000077"
        picture(root / "images_detectron2" / folder / f"{name}.jpg")
        save(root / "annotations_detectron2" / folder / f"{name}.png", halves(0, 170, 255))
    return root


def coco_tree(root: Path, maps: str) -> Path:
    """COCO: the objects of `two_beds` are persons (1) before a wall (199)."""
    ids = two_beds()
    categories = [
        {"id": 1, "name": "person", "isthing": 1},
        {"id": 199, "name": "wall-other-merged", "isthing": 0},
    ]
    picture(root / "val2017" / "a.jpg")
    file = root / "annotations" / "panoptic_val2017.json"
    panoptic_file(file, "a", ids, categories, {1: 199, 2: 1, 3: 1})
    save(root / maps / "a.png", rgb(ids))
    return root
