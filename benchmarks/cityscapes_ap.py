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
from measuring.street_scenes import SIZE, Scene, draw_scene, write_predictions
from measuring.tables import Table, publish
from PIL import Image

from m2f_jax.files import read_json
from m2f_jax.masks.rle import encode_rle

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
    """The number of images."""
    objects: Count = 25
    """Objects in each image."""
    predictions: Count = 100
    """Predictions of each image."""
    repeats: Count = 5
    """How often everything is measured; the least time is shown."""


class Seconds(NamedTuple):
    """The time of a computation."""

    wall: float
    cpu: float


def time_of(run: Callable[[], Any], repeats: int = 1) -> Seconds:
    """Returns the least wall and CPU time of several runs."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return Seconds(*np.min(times, axis=0).tolist())


def evaluate_officially(
    scenes: Sequence[Scene], python: str
) -> tuple[Seconds, Seconds, np.ndarray]:
    """Returns the times of writing the files and of evaluating them, and the AP matrix."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        names = [f"city_{i:06d}_000000" for i in range(len(scenes))]
        for scene, name in zip(scenes, names, strict=True):
            ids = scene.instance_ids.astype(np.uint16)
            Image.fromarray(ids).save(root / f"{name}_gtFine_instanceIds.png")

        def write():
            for scene, name in zip(scenes, names, strict=True):
                write_predictions(scene, root, name)

        written = time_of(write)
        ends = "_gtFine_instanceIds.png", "_pred.txt"
        files = [[str(root / f"{name}{end}") for name in names] for end in ends]
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
