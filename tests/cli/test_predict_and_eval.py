"""What `m2f predict` writes is scored by `m2f eval --predictions` as the model itself is."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m2f_jax.eval.predictions.coco import find_coco_predictions
from m2f_jax.eval.predictions.files import measure_files
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax import ImageProcessor
from m2f_jax.cli import main
from m2f_jax.cli.predicting.folder import Picture, open_folder, stored_results, write_combined
from m2f_jax.cli.predicting.layout import image_ids, result_names
from m2f_jax.cli.predicting.writing import Writer
from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.masks.rle import encode_rle

SIZE = (9, 14)
CATEGORIES = [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 7, "name": "fox"}]
PARTS = st.sampled_from(
    ["0", "1", "2", "3", "1.png", "007", "7", "²³", "a", "A", "a.json", "x[b]", "%2F", "..a", "é "]
)
FILE_NAMES = st.builds(
    lambda folders, stem, ending: "/".join([*folders, stem + ending]),
    st.lists(PARTS, max_size=2),
    PARTS,
    st.sampled_from([".png", ".jpg", ".PNG"]),
)


def is_possible(file_names):
    """Whether no file is where another one has a folder, on any disk."""
    folded = [name.casefold() for name in file_names]
    return len(set(folded)) == len(folded) and not any(
        other.startswith(f"{name}/") for name in folded for other in folded
    )


@st.composite
def data_sets(draw):
    """Names of files, and ids that may be other files' names."""
    names = draw(
        st.lists(FILE_NAMES, min_size=1, max_size=5, unique=True).filter(is_possible),
    )
    stems = [name.rsplit(".", 1)[0] for name in names]
    ids = draw(st.sampled_from([range(1, 9), range(8), names, stems]))
    if len(set(ids)) < len(names):
        ids = names
    ids = draw(st.permutations(list(ids)))
    return names, ids[: len(names)], draw(st.integers(0, 1000))


def truth_of(rng, file_names, ids):
    """Blobs, and a part of the pixels that is nothing."""
    images, objects, panoptic = [], [], []
    maps = {}
    for id_, file_name in zip(ids, file_names, strict=True):
        images.append({"id": id_, "file_name": file_name, "height": SIZE[0], "width": SIZE[1]})
        segment_map = np.kron(rng.integers(0, 4, (3, 7)), np.ones((3, 2), int)).astype(np.int32)
        infos = [
            {"id": number, "category_id": CATEGORIES[number % 3]["id"]}
            for number in np.unique(segment_map[segment_map > 0]).tolist()
        ]
        png = f"{len(maps)}.png"
        maps[png] = segment_map
        panoptic.append({"image_id": id_, "file_name": png, "segments_info": infos})
        for info in infos:
            mask = encode_rle(segment_map == info["id"])
            number = len(objects) + 1
            objects.append(info | {"id": number, "image_id": id_, "segmentation": mask})
    return images, {"instance": objects, "semantic": objects, "panoptic": panoptic}, maps


def segmentation_of(task, rng):
    classes = np.kron(rng.integers(0, 3, (3, 7)), np.ones((3, 2), int)).astype(np.int32)
    if task == "semantic":
        return classes
    if task == "panoptic":
        numbers = np.unique(classes[classes > 0]).tolist()
        found = [Segment(id=k, label=k % 3, is_thing=True, score=0.5) for k in numbers]
        return PanopticSegmentation(segment_map=classes, segments=tuple(found))
    masks = np.array([classes == k for k in (0, 1, 2, 0)])
    return InstanceSegmentation.from_masks(
        scores=np.sort(rng.random(4, np.float32))[::-1].copy(),
        labels=rng.integers(0, 3, 4).astype(np.int32),
        masks=masks,
        queries=np.arange(4, dtype=np.int32),
    )


def numbers(metric):
    return json.dumps(metric.result().to_json(), sort_keys=True)


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=data_sets())
def test_any_names_and_ids_score_the_same(task, data):
    file_names, ids, seed = data
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder, "truth"), Path(folder, "out")
        images, annotations, maps = truth_of(rng, file_names, ids)
        (root / "truth").mkdir(parents=True)
        for name, segment_map in maps.items():
            colors = np.stack([segment_map, 0 * segment_map, 0 * segment_map], -1)
            Image.fromarray(colors.astype(np.uint8)).save(root / "truth" / name)
        content = {"images": images, "categories": CATEGORIES, "annotations": annotations[task]}
        (root / "truth.json").write_text(json.dumps(content))
        dataset = coco_dataset(root / "truth.json", root, task)
        evaluation = evaluation_of(dataset, task)

        # The pictures are found in another order than the images' ids have.
        names = result_names(sorted(file_names), {})
        out.mkdir()
        open_folder(out, {}, dataset.categories, {}, overwrite=False)
        writer, direct = Writer(out, task, tuple(dataset.categories)), evaluation.empty()
        for index, item in enumerate(dataset.images):
            found = segmentation_of(task, rng)
            direct.merge(evaluation.measure(index, evaluation.truth(index), found))
            picture = Picture(
                file_name=item.file_name,
                name=names[item.file_name],
                source=f"/{item.file_name}",
                digest="",
                height=SIZE[0],
                width=SIZE[1],
            )
            writer.write(picture, np.zeros((*SIZE, 3), np.uint8), found)
        results = stored_results(out)
        write_combined(out, task, dataset.categories, results, image_ids(names), boxes=False)

        read, files = evaluation.empty(), find_coco_predictions(out, task, dataset.images, dataset)
        for part in measure_files(evaluation, dataset.images, files):
            read.merge(part)
        assert numbers(read) == numbers(direct)


def test_from_end_to_end(micro, tmp_path):
    """Ids and names are crossed; a model of random weights has scores that nothing else has."""
    model, pictures = tmp_path / "model", tmp_path / "pictures"
    micro.save_pretrained(model)
    ImageProcessor(thing_classes=(0, 1)).save_pretrained(model)
    rng = np.random.default_rng(0)
    images, objects = [], []
    for k, (id_, name) in enumerate([(1, "0.png"), (0, "a/1.png"), (2, "b/1.png")]):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(rng.integers(0, 256, (4, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(pictures / name)
        images.append({"id": id_, "file_name": name, "height": 64, "width": 96})
        mask = np.zeros((64, 96), bool)
        mask[:, 20 * k :] = True
        objects.append({"id": k + 1, "image_id": id_, "category_id": k % 2 + 1})
        objects[-1]["segmentation"] = encode_rle(mask)
    categories = [{"id": label.id, "name": label.name} for label in micro.config.labels]
    truth = tmp_path / "truth.json"
    truth.write_text(
        json.dumps({"images": images, "categories": categories, "annotations": objects})
    )
    predicted = tmp_path / "predicted"
    options = ["--model", str(model), "--out"]
    assert main(["predict", str(pictures), *options, str(predicted), "--threshold", "0"]) == 0
    evaluate = ["eval", "coco", str(truth)]
    assert main([*evaluate, str(pictures), *options, str(tmp_path / "direct")]) == 0
    shutil.rmtree(pictures)
    read = ["--predictions", str(predicted), "--out", str(tmp_path / "read")]
    assert main([*evaluate, *read]) == 0
    direct, read = (
        json.loads((tmp_path / name / "results.json").read_text())["official"]
        for name in ("direct", "read")
    )
    assert read == direct
    assert 0 < direct["AP50"] < 1
