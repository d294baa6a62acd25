"""What `m2f train` refuses before the first step, and says of the data; no step is taken."""

import dataclasses
import io
import json
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.cli.commands import train as command
from m2f_jax.cli.training.data import findings
from m2f_jax.cli.training.settings import Settings
from m2f_jax.datasets.checking import Contents
from m2f_jax.datasets.folder import folder_dataset
from m2f_jax.modeling.parameters import abstract_model, fill, parameter_shapes
from m2f_jax.plain import to_plain
from m2f_jax.training.augment import random_crops
from m2f_jax.training.config import LossConfig, TrainConfig
from m2f_jax.training.recipes import Recipe
from m2f_jax.training.running.logs import Log, read_log
from tests.conftest import MICRO, ROOT

HEIGHT, WIDTH = 64, 96
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def square(number, image):
    left, top = 20 * number, 10 * number
    outline = [left, top, left + 15, top, left + 15, top + 15, left, top + 15]
    return {
        "id": number,
        "image_id": image,
        "category_id": number,
        "segmentation": [outline],
        "area": 225,
        "bbox": [left, top, 15, 15],
        "iscrowd": 0,
    }


def write_split(folder, objects=((1, 1), (2, 2)), ending="png"):
    """Two pictures of noise in COCO's format, and objects: their number and their image."""
    (folder / "images").mkdir(parents=True)
    images = []
    for id_ in (1, 2):
        name = f"{id_}.{ending}"
        pixels = np.random.default_rng(id_).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": id_, "file_name": name, "height": HEIGHT, "width": WIDTH})
    annotations = [square(*pair) for pair in objects]
    content = {"images": images, "categories": CATEGORIES, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(content))


def write_recipe(path, task="instance"):
    chosen = Recipe(
        train=TrainConfig(
            model=dataclasses.replace(MICRO, task=task), steps=2, loss=LossConfig(num_points=16)
        ),
        augmentation=random_crops((32, 64), 64, 128),
        batch_size=2,
        max_segments=5,
    )
    path.write_text(json.dumps(to_plain(chosen)))


@pytest.fixture
def data(tmp_path):
    """Two splits and a recipe."""
    write_split(tmp_path / "data" / "train")
    write_split(tmp_path / "data" / "val")
    write_recipe(tmp_path / "recipe.json")
    return tmp_path / "data"


@pytest.fixture
def train(data, monkeypatch, capsys):
    """Runs the command; where nothing is refused, says how many images would be trained on."""
    started = []

    def no_steps(state, stream, *_):
        started.append(len(stream.stream.examples))
        return dataclasses.replace(state, step=jnp.int32(state.config.steps))

    def untrained(config, *_):
        shapes = parameter_shapes(config)
        zeros = {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}
        return fill(abstract_model(config), zeros)

    monkeypatch.setattr(command, "run_loop", no_steps)
    monkeypatch.setattr(command, "initialize", untrained)

    def run(*options, task="instance", out="out"):
        started.clear()
        write_recipe(data.parent / "recipe.json", task)
        arguments = ["--data", data, "--out", data.parent / out, "--threads", "1", *options]
        recipe = str(data.parent / "recipe.json")
        code = main(["train", recipe, *map(str, arguments)])
        said = capsys.readouterr().err
        assert code == (0 if started else 1), said
        return (started[0] if started else None), said

    return run


def refused(outcome, *words):
    """Nothing was trained, and the last line says why."""
    started, said = outcome
    assert started is None
    assert "Traceback" not in said
    [*_, line] = [line for line in said.splitlines() if line.startswith("m2f: ")]
    message = said[said.index(line) :]
    for word in words:
        assert str(word) in message
    return message


# --- data ---


def test_sound_data_are_trained_on_and_not_read_twice(train, monkeypatch):
    started, said = train()
    assert started == 2
    assert "2 images to learn from; 0 of them hold no object" in said
    monkeypatch.setattr("m2f_jax.datasets.coco.read_image", None)  # would be a TypeError
    assert train()[0] == 2


def test_images_without_objects_are_counted(train, data):
    (data / "train" / "annotations.json").unlink()
    (data / "train" / "images").rename(data / "old")
    write_split(data / "train", objects=[(1, 1)])
    started, said = train()
    assert started == 1
    assert "1 of them hold no object and are left out (--keep-empty-images keeps them)" in said
    started, said = train("--keep-empty-images", out="all")
    assert started == 2
    assert "1 of them hold no object and are kept" in said
    assert json.loads((data.parent / "all" / "train.json").read_text())["settings"][
        "keep_empty_images"
    ]
    refused(train(out="all"), "settings.keep_empty_images was True, and is False")


def test_objects_without_a_pixel_are_counted_and_named(data):
    examples = folder_dataset(data / "train", "instance")
    counts = np.ones((2, 2), int)
    said = findings(examples, Contents(counts, np.array([[0, 0], [1, 2]])), False)
    place = data / "train" / "images"
    assert said == [
        "2 images to learn from; 0 of them hold no object",
        f"3 objects have no pixel and are left out, in {place}/2.png (cat, dog)",
    ]
    [_, said] = findings(examples, Contents(counts, np.array([[1, 0], [0, 1]])), True)
    assert said.endswith(f"in {place}/1.png (cat), {place}/2.png (dog)")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_pictures_cut_short_are_named(train, data, split, ending):
    (data / split / "annotations.json").unlink()
    (data / split / "images").rename(data / "old")
    write_split(data / split, ending=ending)
    picture = data / split / "images" / f"2.{ending}"
    picture.write_bytes(picture.read_bytes()[:-5000])
    refused(train(), "1 of the 2 images can't be used", picture)
    assert not (data.parent / "out" / "checkpoints").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_sizes_that_differ_are_named(train, data, split):
    picture = data / split / "images" / "1.png"
    Image.new("RGB", (HEIGHT, WIDTH)).save(picture)
    refused(train(), picture, "96 x 64", "must be equal")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("damage", ["short", "size", "class"])
def test_maps_of_ids_are_checked_in_both_splits(train, data, split, damage):
    things = [label | {"is_thing": True} for label in CATEGORIES]
    (data / "labels.json").write_text(json.dumps(things))
    for part in ("train", "val"):
        (data / part / "annotations.json").unlink()
        (data / part / "ids").mkdir()
        for name in ("1.png", "2.png"):
            ids = np.zeros((HEIGHT, WIDTH), np.uint16)
            ids[5:20, 5:20] = 1000
            Image.fromarray(ids).save(data / part / "ids" / name)
    assert train(out="sound")[0] == 2
    path = data / split / "ids" / "2.png"
    if damage == "short":
        path.write_bytes(path.read_bytes()[:60])
    elif damage == "size":
        Image.fromarray(np.zeros((HEIGHT, 5), np.uint8)).save(path)
    else:
        Image.fromarray(np.full((HEIGHT, WIDTH), 9, np.uint8)).save(path)
    refused(train(), path)


def test_trusted_data_are_not_read(train, data):
    for split in ("train", "val"):
        picture = data / split / "images" / "2.png"
        pixels = bytearray(picture.read_bytes())
        pixels[100:-100] = bytes(len(pixels) - 200)
        picture.write_bytes(pixels)
    refused(train(), "2.png")
    assert train("--trust-data")[0] == 2
    annotations = data / "train" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["annotations"] = content["annotations"][:1]
    annotations.write_text(json.dumps(content))
    assert train("--trust-data", out="other")[0] == 1
    assert train("--trust-data", "--keep-empty-images", out="third")[0] == 2


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_panoptic_recipe_needs_a_panoptic_file(train, data, split):
    ids = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ids[:30, :, 0] = 7
    for part in {"train", "val"} - {split}:
        path = data / part / "annotations.json"
        (path.parent / "annotations").mkdir()
        content = json.loads(path.read_text())
        content["annotations"] = []
        for image in (1, 2):
            Image.fromarray(ids).save(path.parent / "annotations" / f"{image}.png")
            segment = {"id": 7, "category_id": 1, "iscrowd": 0, "area": 30 * WIDTH}
            content["annotations"].append(
                {"image_id": image, "file_name": f"{image}.png", "segments_info": [segment]}
            )
        path.write_text(json.dumps(content))
    message = refused(train(task="panoptic"), data / split / "annotations.json")
    assert "needs a panoptic file" in message
    assert not (data.parent / "out").exists()


def test_without_val_it_says_that_nothing_is_evaluated(train, data):
    (data / "val" / "annotations.json").unlink()
    assert "no val to evaluate on" in train()[1]


# --- options ---


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--save-every", "0"),
        ("--save-every", "-1"),
        ("--log-every", "0"),
        ("--evaluate-every", "-7"),
        ("--evaluate-images", "-5"),
        ("--evaluate-images", "0"),
        ("--learning-rate", "nan"),
        ("--learning-rate", "inf"),
        ("--seed", "99999999999999999999"),
        ("--seed", "-1"),
        ("--steps", "0"),
        ("--steps", "1000000000001"),
        ("--batch-size", "0"),
        ("--accumulate", "0"),
        ("--average-decay", "1"),
        ("--average-decay", "-0.1"),
        ("--threads", "0"),
        ("--workers", "-1"),
        ("--workers", "1024"),
        ("--size", "0x0"),
        ("--size", "1000000000x1000000000"),
        ("--size", "65537x64"),
        ("--size", "64"),
        ("--size", "-64x64"),
    ],
)
def test_impossible_options_are_named(train, data, option, value):
    refused(train(option, value), option)
    assert not (data.parent / "out").exists()


def test_crops_beyond_reason_are_refused(train):
    refused(train("--size", "65536x65536"), "67,108,864 pixels that a crop may have")


def test_batches_that_cannot_be_divided_are_refused(train):
    refused(train("--batch-size", "3", "--accumulate", "2"), "--batch-size 3", "by 2 parts")
    assert train("--batch-size", "4", "--accumulate", "2")[0] == 2


def test_an_average_without_decay_is_none(train, data):
    assert train("--average-decay", "0")[0] == 2
    settings = Settings.load(data.parent / "out" / "train.json").settings
    assert settings.train.average_decay == 0


# --- files of the output folder ---


def leaves(value, path=()):
    """The paths of all values in JSON."""
    yield path
    for key in (
        value if isinstance(value, dict) else range(len(value) if type(value) is list else 0)
    ):
        yield from leaves(value[key], (*path, key))


def changed(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def refusal(path):
    """What is said of settings, if they are refused."""
    try:
        Settings.load(path)
    except ValueError as error:
        return [str(error)]
    return []


def test_settings_damaged_anywhere_are_refused_by_file(train, data):
    train()
    path = data.parent / "out" / "train.json"
    content = json.loads(path.read_text())
    damaged = data.parent / "damaged.json"
    refusals = []
    for place in leaves(content):
        for new in (None, [], {}, "x", -1, True):
            damaged.write_text(json.dumps(changed(content, place, new)))
            refusals += refusal(damaged)
    assert len(refusals) > 300
    assert [x for x in refusals if not x.startswith(str(damaged)) or "\n" in x] == []
    for text in ("", "{", '{"recipe": "a", "recipe": "b"}', "[" * 100_000):
        path.write_text(text)
        refused(train(), path)
    path.write_text(json.dumps({"recipe": "streets"}))
    refused(train(), path, "lacks the field")


@pytest.mark.parametrize(
    "line",
    ['{"step": 1, "lo', "[1]", '{"step": "1"}', '{"loss": 2.0}', '{"step": 1, "AP": "high"}'],
)
def test_a_damaged_log_is_named_by_line(train, data, line):
    assert train()[0] == 2
    log = data.parent / "out" / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n' + line + '\n{"step": 2, "loss": 1.0}\n')
    refused(train(), f"line 2 of {log}")


def test_the_log_is_strict_json_and_half_a_line_is_dropped(tmp_path):
    log = Log(tmp_path, 0)
    log.add(1, {"loss": float("nan"), "AP": 2.5})
    log.add(2, {"loss": 1.0})
    log.close()
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "lo')
    assert read_log(path) == [{"step": 1, "loss": None, "AP": 2.5}, {"step": 2, "loss": 1.0}]
    Log(tmp_path, 1).close()
    assert path.read_text() == '{"step": 1, "loss": null, "AP": 2.5}\n'


def test_a_full_disk_names_the_log(tmp_path, monkeypatch):
    log = Log(tmp_path, 0)

    class Full(io.StringIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    log.file.close()
    monkeypatch.setattr(log, "file", Full())
    with pytest.raises(OSError, match="No space left") as caught:
        log.add(1, {"loss": 1.0})
    assert caught.value.filename == str(tmp_path / "log.jsonl")
    log.close()


def test_a_folder_in_use_is_refused_until_its_process_ends(train, data):
    out = data.parent / "out"
    out.mkdir()
    code = (
        "import sys; from m2f_jax.files.folder_lock import only_run_in; from pathlib import Path\n"
        "with only_run_in(Path(sys.argv[1]), 'train.lock'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    refused(train(), f"{out} is in use by another m2f train")
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    assert train()[0] == 2


@pytest.mark.parametrize("package", ["grain", "tensorboardX"])
def test_a_missing_package_is_told_with_its_extra(train, package, monkeypatch):
    again = {"m2f_jax.cli.commands.train", "m2f_jax.cli.training.report"}
    files = ("data", "running.logs", "running.tensorboard")
    again |= {f"m2f_jax.training.{name}" for name in files}
    for name in list(sys.modules):
        if name in again or name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    refused(train(), f"m2f train needs {package}: pip install 'm2f-jax[train]'")
