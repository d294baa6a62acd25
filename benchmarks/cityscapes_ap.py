"""Times Cityscapes instance AP: ours by every route, beside the official script, in one run.

    python benchmarks/cityscapes_ap.py --official-python PATH

`PATH` is the Python of an environment in which the official script works: cityscapesScripts 2.3.0
with numpy 1.26. Without it only our routes are timed. The scenes are drawn at random in the size of
Cityscapes; all routes must give the same average precisions, to the last bit.
"""

import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from m2f_jax.eval import CityscapesInstanceAP, Regions, count_on_device
from measuring.options import Count, Reported, parse
from measuring.tables import Table, publish
from PIL import Image

from m2f_jax.files import read_json
from m2f_jax.rle import encode_rle

SIZE = (1024, 2048)
CLASSES = (24, 24, 24, 25, 26, 26, 26, 26, 27, 28, 31, 32, 33)
OFFICIAL = """
import json, sys, time
import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as official
truths, predictions = json.load(sys.stdin)
official.args.quiet = True
official.args.predictionPath, official.args.gtInstancesFile, official.args.exportFile = sys.argv[1:]
wall, cpu = time.perf_counter(), time.process_time()
official.evaluateImgLists(predictions, truths, official.args)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


@dataclass(frozen=True, kw_only=True)
class Options(Reported):
    """Time Cityscapes instance AP: ours by every route, beside the official script."""

    official_python: str | None = None
    """A Python with cityscapesScripts and numpy 1.26."""
    images: Count = 5
    """How many are scored."""
    objects: Count = 25
    """Of each image."""
    predictions: Count = 100
    """Of each image."""
    repeats: Count = 5
    """The best of so many is shown."""


class Scene(NamedTuple):
    """One image's ground truth and predictions."""

    instance_ids: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Seconds(NamedTuple):
    """What something takes."""

    wall: float
    cpu: float


def draw_object(rng: np.random.Generator) -> tuple[float, ...]:
    """Returns centre, half axes and waviness of an object; most are small, a few are huge."""
    half_width = min(np.exp(rng.normal(3.6, 0.8)), 350)
    half_height = min(half_width * rng.uniform(0.6, 2), 350)
    centre = rng.uniform(0.35, 0.85) * SIZE[0], rng.uniform(0, SIZE[1])
    return *centre, half_height, half_width, rng.uniform(0, 6)


def draw_mask(shape: tuple[float, ...]) -> np.ndarray:
    """Returns an ellipse with a wavy border."""
    y, x, half_height, half_width, phase = shape
    top, bottom = max(int(y - 1.3 * half_height), 0), min(int(y + 1.3 * half_height), SIZE[0])
    left, right = max(int(x - 1.3 * half_width), 0), min(int(x + 1.3 * half_width), SIZE[1])
    rows, columns = np.mgrid[top:bottom, left:right]
    dy, dx = (rows - y) / half_height, (columns - x) / half_width
    angle = np.arctan2(dy, dx)
    radius = 1 + 0.1 * np.sin(5 * angle + phase) + 0.05 * np.sin(11 * angle + 2 * phase)
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = dy**2 + dx**2 < radius**2
    return mask


def draw_scene(rng: np.random.Generator, num_objects: int, num_predictions: int) -> Scene:
    """Returns stuff, poles, objects and groups, with predictions near objects and anywhere."""
    height, width = SIZE
    ids = np.full(SIZE, 7, np.int32)
    rows = np.arange(height)[:, None]
    for label, level in ((8, 0.62), (21, 0.55), (11, 0.45), (23, 0.2)):
        skyline = level * height + np.cumsum(rng.normal(0, 2, width))
        ids[rows < skyline] = label
    for _ in range(40):
        y, x = rng.integers(200, 700), rng.integers(width)
        ids[max(y - rng.integers(150), 0) : y, x : x + rng.integers(1, 20)] = rng.choice(
            [17, 20, 4]
        )
    objects, labels = (
        [draw_object(rng) for _ in range(num_objects)],
        rng.choice(CLASSES, num_objects),
    )
    for k, (shape, label) in enumerate(zip(objects, labels, strict=True)):
        ids[draw_mask(shape)] = label if rng.random() < 0.1 else label * 1000 + k
    ids[int(0.92 * height) :] = 1  # the car that drives

    masks = np.zeros((num_predictions, *SIZE), bool)
    predicted = rng.choice(CLASSES, num_predictions)
    for k in range(num_predictions):
        shape = draw_object(rng)
        if k < 0.6 * num_predictions:
            near = rng.integers(num_objects)
            y, x, half_height, half_width, phase = objects[near]
            y, x = y + rng.normal(0, 0.05) * half_height, x + rng.normal(0, 0.05) * half_width
            shape = y, x, half_height * rng.uniform(0.9, 1.1), half_width, phase
            predicted[k] = labels[near]
        masks[k] = draw_mask(shape)
    return Scene(ids, masks, predicted, rng.random(num_predictions).astype(np.float32))


def time_of(run: Callable[[], Any], repeats: int = 1) -> Seconds:
    """Returns the least wall and CPU time of several runs."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return Seconds(*np.min(times, axis=0).tolist())


def write_predictions(scenes: Sequence[Scene], root: Path):
    """Writes a PNG of each mask and a list of them for each image, for the official script."""
    for i, scene in enumerate(scenes):
        lines = []
        for k, mask in enumerate(scene.masks):
            name = f"city_{i:06d}_000000_{k}.png"
            Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(root / name)
            lines.append(f"{name} {scene.labels[k]} {float(scene.scores[k])!r}\n")
        (root / f"city_{i:06d}_000000_pred.txt").write_text("".join(lines))


def evaluate_officially(
    scenes: Sequence[Scene], python: str
) -> tuple[Seconds, Seconds, np.ndarray]:
    """Returns what it takes to write the files and to evaluate them, and the AP matrix."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        names = [str(root / f"city_{i:06d}_000000_") for i in range(len(scenes))]
        for scene, name in zip(scenes, names, strict=True):
            ids = scene.instance_ids.astype(np.uint16)
            Image.fromarray(ids).save(f"{name}gtFine_instanceIds.png")
        written = time_of(lambda: write_predictions(scenes, root))
        files = [[name + end for name in names] for end in ("gtFine_instanceIds.png", "pred.txt")]
        command = [python, "-c", OFFICIAL, str(root), str(root / "gt.json"), str(root / "ap.json")]
        done = subprocess.run(
            command, input=json.dumps(files), cwd=root, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"the official script failed:\n{done.stderr}")
        evaluated = Seconds(*json.loads(done.stdout.splitlines()[-1]))
        matrix = np.array(read_json(root / "ap.json")["resultApMatrix"][0], float)
    return written, evaluated, matrix


def routes(scenes: list[Scene]) -> dict[str, Callable[[CityscapesInstanceAP, int], None]]:
    """Returns our ways to add image i to a metric."""
    regions = [Regions.of(scene.instance_ids) for scene in scenes]
    rles = [[encode_rle(mask) for mask in scene.masks] for scene in scenes]
    packed = [jnp.asarray(np.packbits(scene.masks, axis=-1)) for scene in scenes]

    def masks(metric: CityscapesInstanceAP, i: int):
        metric.add(scenes[i].instance_ids, scenes[i].masks, scenes[i].labels, scenes[i].scores)

    def masks_kept(metric: CityscapesInstanceAP, i: int):
        metric.add(regions[i], scenes[i].masks, scenes[i].labels, scenes[i].scores)

    def rles_kept(metric: CityscapesInstanceAP, i: int):
        metric.add(regions[i], rles[i], scenes[i].labels, scenes[i].scores)

    def device(metric: CityscapesInstanceAP, i: int):
        counts = jax.device_get(
            count_on_device(
                packed[i],
                jnp.asarray(regions[i].index_map(SIZE)),
                num_columns=regions[i].num_columns,
            )
        )
        metric.add_table(regions[i], counts.table, counts.areas, scenes[i].labels, scenes[i].scores)

    return {
        "bool masks": masks,
        "bool masks, regions kept": masks_kept,
        "RLEs, regions kept": rles_kept,
        f"packed masks on {jax.devices()[0].device_kind}, regions kept": device,
    }


def main(arguments: Sequence[str] | None = None):
    """Times everything and prints one table."""
    options = parse(Options, arguments)
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, options.objects, options.predictions) for _ in range(options.images)]
    rows, matrices = {}, {}
    metric = CityscapesInstanceAP()
    for name, add in routes(scenes).items():
        metric, times = CityscapesInstanceAP(), []
        for i in range(len(scenes)):
            add(metric, i)
            run = functools.partial(add, CityscapesInstanceAP(), i)
            times.append(time_of(run, options.repeats))
        rows[name] = Seconds(*np.sum(times, axis=0).tolist())
        matrices[name] = metric.result().ap_matrix
    rows["then, the result"] = time_of(metric.result, options.repeats)
    reference, *_ = rows
    if options.official_python:
        write, evaluate, matrices["official"] = evaluate_officially(scenes, options.official_python)
        reference = "official script, PNGs there"
        rows |= {reference: evaluate, "writing these PNGs": write}
    expected, *_ = matrices.values()
    for name, matrix in matrices.items():
        np.testing.assert_array_equal(matrix, expected, err_msg=name)
    lines = [
        {
            "route": name,
            "wall ms/image": 1000 * seconds.wall / len(scenes),
            "CPU ms/image": 1000 * seconds.cpu / len(scenes),
            "times as fast (CPU)": rows[reference].cpu / seconds.cpu,
        }
        for name, seconds in rows.items()
    ]
    title = f"{len(scenes)} images, {options.predictions} predictions each"
    agreement = {"AP by every route": float(np.nanmean(expected))}
    content = {"title": title, "agreement": agreement, "rows": lines}
    publish(options, [Table.of(title, lines)], {"agreement": agreement}, content)


if __name__ == "__main__":
    main()
