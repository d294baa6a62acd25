"""Many images on a Ray cluster of two workers: what one process finds, whoever dies."""

import dataclasses
import functools
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter

ray = pytest.importorskip("ray", reason="needs ray (pip install m2f-jax[ray])")
pq = pytest.importorskip("pyarrow.parquet")

from m2f_jax.ray import segment, segmenting  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
SIZES = [(40, 64), (40, 64), (33, 70)]
COUNT = 9
KILLER = "5.png"  # in whose part an actor is killed
FAULTY = {"broken.png", "text.jpg"}


@pytest.fixture(scope="module")
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(micro, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    micro.save_pretrained(folder)
    processor = ImageProcessor.for_model(micro.config)
    native = dataclasses.replace(processor, shortest_edge=None, longest_edge=None)
    native.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Pictures of several sizes; lying on its side, of 16 bits, with alpha; and two faulty ones."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for i in range(COUNT):
        pixels = random.integers(0, 256, (*SIZES[i % 3], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "lying.jpg", exif=exif)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(folder / "deep.png")
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(folder / "clear.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:200])
    (folder / "text.jpg").write_text("no image")
    return folder


def predict(model, images, out, *more) -> int:
    named = ["predict", images, "--model", model, "--out", out, "--threshold", 0, "--top-k", 7]
    return main([str(x) for x in (*named, *more)])


@pytest.fixture(scope="module")
def alone(model, images, tmp_path_factory) -> Path:
    """What `m2f predict` writes in one process."""
    out = tmp_path_factory.mktemp("alone")
    assert predict(model, images, out) == 1
    return out


def rows_of(out: Path, folder: str = "images") -> dict[str, dict]:
    tables = map(pq.read_table, sorted((out / folder).glob("*.parquet")))
    rows = [row for table in tables for row in table.to_pylist()]
    found = {Path(row["path"]).name: row for row in rows}
    assert len(found) == len(rows)  # none twice
    return found


def coco_of(row: dict) -> list[dict]:
    """A row as entries of a file of COCO's results, as the documentation has it."""
    return [
        {
            "category_id": x["category_id"],
            "segmentation": {"size": [row["height"], row["width"]], "counts": x["counts"]},
            "score": x["score"],
        }
        for x in row["segments"]
    ]


class Dying(Segmenter):
    """Kills its process when it gets an image of a certain size and content for the first time."""

    victim: tuple[Path, Path]

    def prepare(self, image, target_size=None):
        picture, marker = self.victim
        with Image.open(picture) as wanted:
            if not marker.exists() and np.array_equal(wanted, image):
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(image, target_size)


def open_dying(victim, *arguments):
    model = segmenting.open_checkpoint(*arguments)  # of the worker's own module
    model.segmenter.__class__ = Dying
    model.segmenter.victim = victim
    return model


@pytest.mark.usefixtures("cluster")
def test_nothing_is_lost_with_a_killed_worker_and_nothing_done_twice(
    model, images, alone, tmp_path, monkeypatch, capsys
):
    out, marker = tmp_path / "out", tmp_path / "killed"
    victim = (images / KILLER, marker)
    dying = functools.partial(open_dying, victim)
    monkeypatch.setattr(segmenting, "open_checkpoint", dying)
    paths = [str(x) for x in sorted(images.iterdir())]
    dataset = ray.data.read_binary_files(paths, include_paths=True, override_num_blocks=2)
    parts = []
    options = {"threshold": 0.0, "top_k": 7, "actors": 2, "part_size": 3}
    done = segment(dataset, model, out, **options, progress=parts.append)
    assert marker.exists()
    assert (done.finished, done.failed, done.skipped) == (COUNT + 3, 2, 0)
    assert len(parts) >= 4
    rows = rows_of(out)
    for path in (alone / "results").glob("*.json"):
        result = json.loads(path.read_text())
        row = rows.pop(result["image"]["file_name"])
        for name in ("height", "width", "digest"):
            assert row[name] == result["image"][name]
        entries = [{**x} for x in result["annotations"]]
        assert all(x.pop("image_id") for x in entries)
        assert coco_of(row) == entries
        assert row["path"] == str(images / result["image"]["file_name"])
    assert not rows
    failed = rows_of(out, "failed")
    assert set(failed) == FAULTY
    error = failed["broken.png"]["error"]
    assert error.startswith(f"{images / 'broken.png'} can't be read as an image (")
    assert set(done.errors) == {row["error"] for row in failed.values()}

    # The command goes on in the same folder, with a new image; one has changed meanwhile.
    monkeypatch.undo()
    more = tmp_path / "more"
    more.mkdir()
    for path in images.iterdir():
        (more / path.name).symlink_to(path)
    before = {x: x.stat().st_mtime_ns for x in (out / "images").iterdir()}
    Image.new("RGB", (64, 40)).save(tmp_path / "new.png")
    kept = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes((images / "0.png").read_bytes())
    capsys.readouterr()
    try:
        named = [images, tmp_path / "new.png", "--model", model, "--out", out, "--top-k", 7]
        options = ["--threshold", 0, "--ray", "auto", "--parquet", "--actors", 2]
        assert main(["predict", *map(str, [*named, *options])]) == 1
    finally:
        (images / "1.png").write_bytes(kept)
    said = capsys.readouterr().err
    assert f"{COUNT + 2} of {COUNT + 6} images are done already" in said
    assert f"m2f: {images / '1.png'} has changed since it was segmented" in said
    assert f"3 of {COUNT + 6} images failed" in said
    assert set(rows_of(out)) == {x.name for x in images.iterdir()} - FAULTY | {"new.png"}
    assert {x: x.stat().st_mtime_ns for x in before} == before
    assert set(rows_of(out, "failed")) == FAULTY | {"1.png"}
    assert json.loads((out / "summary.json").read_text()) == {"finished": COUNT + 3, "failed": 3}


@pytest.mark.usefixtures("cluster")
def test_the_command_writes_the_same_files(model, images, alone, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(model, images, out, "--ray", "auto", "--actors", 2) == 1
    assert f"2 of {COUNT + 5} images failed" in capsys.readouterr().err
    files = [
        {x.relative_to(y): x.read_bytes() for x in y.rglob("*") if x.is_file()}
        for y in (alone, out)
    ]
    assert len(files[0]) > 2 * COUNT
    assert files[0] == files[1]
