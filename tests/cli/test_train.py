"""`m2f train` from end to end: killed, gone on, evaluated, and its model used."""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax import ImageProcessor, Mask2Former, Segmenter
from m2f_jax.cli import main
from m2f_jax.cli.training.report import Run, save
from m2f_jax.cli.training.settings import Settings
from m2f_jax.config import FPNPixelDecoderConfig, Mask2FormerConfig
from m2f_jax.labels import CITYSCAPES, things
from m2f_jax.modeling.parameters import abstract_model, fill, parameter_shapes
from m2f_jax.modeling.parameters import parameters as parameters_of
from m2f_jax.plain import to_plain
from m2f_jax.pretrained import start_from
from m2f_jax.streets import write_streets
from m2f_jax.training.augment import random_crops
from m2f_jax.training.config import LossConfig, TrainConfig
from m2f_jax.training.recipes import Recipe, recipe
from tests.conftest import GOLDEN, MICRO, ROOT
from tests.toys import registered

STEPS = 6
LOG_NAMES = {
    *("step", "loss", "class loss", "mask loss", "dice loss", "gradient norm"),
    *("learning rate", "images/s", "skipped", "memory GiB"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe, streets to train on, and what an uninterrupted training run makes of them.

    The model is of toy parts, which are registered as long as these tests run.
    """
    folder = tmp_path_factory.mktemp("train")
    write_streets(folder / "city", 5, (128, 256), 1, "train", workers=2)
    write_streets(folder / "city", 2, (128, 256), 2, "val")
    with registered() as parts:
        model = Mask2FormerConfig(labels=CITYSCAPES, task="panoptic", **parts)
        chosen = Recipe(
            train=TrainConfig(
                model=model, steps=STEPS, loss=LossConfig(num_points=32), average_decay=0.9
            ),
            augmentation=random_crops((64, 128), 128, 512),
            batch_size=2,
            max_segments=20,
        )
        (folder / "recipe.json").write_text(json.dumps(to_plain(chosen)))
        assert train(folder, "whole") == 0
        yield folder


def arguments(folder, out, *more):
    settings = ["--log-every", "1", "--save-every", "2", "--evaluate-every", "3"]
    file, data = str(folder / "recipe.json"), str(folder / "city")
    return ["train", file, "--data", data, "--out", str(folder / out), *settings, *map(str, more)]


def train(folder, out, *more):
    """The exit code of the command, in this process."""
    return main(arguments(folder, out, *more))


def start(*command, **variables):
    """`m2f` in a process of its own, with environment variables."""
    code = (
        "import sys; from m2f_jax.cli import main; from tests.toys import registered\n"
        "with registered(): sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *command],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """The exit code and what was written on standard error."""
    error = process.communicate(timeout=600)[1]
    return process.returncode, error


def entries(folder, out):
    return [json.loads(line) for line in (folder / out / "log.jsonl").read_text().splitlines()]


def losses(folder, out):
    return [(entry["step"], entry["loss"]) for entry in entries(folder, out) if "loss" in entry]


def parameters(folder, out):
    return (folder / out / "model" / "model.safetensors").read_bytes()


def test_the_log_says_what_people_want_to_know(folder):
    lines = entries(folder, "whole")
    steps = [entry for entry in lines if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, STEPS + 1))
    assert all(set(entry) == LOG_NAMES for entry in steps)
    assert [entry["step"] for entry in lines if "PQ" in entry] == [3, 6]
    assert list((folder / "whole" / "tensorboard").glob("events*"))


def test_the_model_can_be_used(folder):
    segmenter = Segmenter.from_pretrained(folder / "whole" / "model", "float32")
    image = np.zeros((128, 256, 3), np.uint8)
    assert segmenter(image).segment_map.shape == (128, 256)
    assert segmenter(image, "semantic").shape == (128, 256)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of our own parts, as a training run saves it."""
    pixel_decoder = dataclasses.replace(MICRO.pixel_decoder, num_points=4)  # as Hugging Face's
    config = dataclasses.replace(
        MICRO, labels=CITYSCAPES, task="panoptic", pixel_decoder=pixel_decoder
    )
    rng = np.random.default_rng(0)
    arrays = {
        name: jnp.asarray(rng.normal(scale=0.3, size=shape), jnp.float32)
        for name, shape in parameter_shapes(config).items()
    }
    path = tmp_path_factory.mktemp("saved") / "model"
    model = fill(abstract_model(config), arrays)
    save(model, ImageProcessor.for_model(config), path)
    return path


def test_the_model_can_be_converted(saved, tmp_path):
    assert main(["convert", str(saved), str(tmp_path / "hf"), "--to", "huggingface"]) == 0
    ours, theirs = (parameters_of(Mask2Former.from_pretrained(x)) for x in (saved, tmp_path / "hf"))
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value[...], theirs[name][...], err_msg=name)


def test_killed_at_any_moment_it_comes_to_the_same_parameters(folder):
    process = start(*arguments(folder, "killed"))
    checkpoints = folder / "killed" / "checkpoints"
    while not (checkpoints / "2").is_dir():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert not (folder / "killed" / "checkpoints" / str(STEPS)).exists()
    assert train(folder, "killed") == 0
    assert losses(folder, "killed") == losses(folder, "whole")
    assert parameters(folder, "killed") == parameters(folder, "whole")


def test_asked_to_stop_it_saves_first(folder, monkeypatch, capsys):
    report = Run.report

    def stop(self, step, numbers):
        report(self, step, numbers)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "report", stop)
    assert train(folder, "stopped", "--save-every", "1000") == 130
    assert losses(folder, "stopped")[-1][0] == 3
    assert (folder / "stopped" / "checkpoints" / "3").is_dir()
    monkeypatch.setattr(Run, "report", report)
    assert train(folder, "stopped", "--save-every", "1000") == 0
    assert f"going on after step 3 of {STEPS}" in capsys.readouterr().err
    assert parameters(folder, "stopped") == parameters(folder, "whole")


def slurm_variables(process, count):
    """What `srun` tells one of the processes of a job on this machine."""
    return {
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def test_two_processes_of_slurm_train_one_model(folder):
    for job in itertools.count(os.getpid()):
        # JAX takes the port of process 0 from the job's number.
        with contextlib.suppress(OSError), socket.create_server(("", 61440 + job % 4096)):
            break
    processes = [
        start(
            *arguments(folder, "two", "--distributed"),
            SLURM_JOB_ID=str(job),
            **slurm_variables(i, 2),
        )
        for i in (0, 1)
    ]
    for process in processes:
        code, error = finish(process)
        assert code == 0, error
    steps, alone = (dict(losses(folder, out)) for out in ("two", "whole"))
    assert steps == pytest.approx(alone, rel=1e-4)
    scores, alone = (
        [entry for entry in entries(folder, out) if "PQ" in entry] for out in ("two", "whole")
    )
    assert [entry["step"] for entry in scores] == [entry["step"] for entry in alone]
    ours, theirs = (Mask2Former.from_pretrained(folder / out / "model") for out in ("two", "whole"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def test_settings_written_before_parts_had_types_are_the_same(tmp_path):
    """As in docs/streets, and with the FPN's width under the name that it had."""
    chosen = recipe("streets")
    fpn = FPNPixelDecoderConfig(dim=64, mask_dim=32)
    model = dataclasses.replace(chosen.train.model, pixel_decoder=fpn)
    chosen = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, model=model))
    settings = Settings(recipe="streets", data="city", from_=None, seed=0, settings=chosen)
    early = settings.to_dict()
    del early["invalid"]
    parts = early["settings"]["train"]["model"]
    for name in ("backbone", "pixel_decoder", "decoder"):
        del parts[name]["type"]
    parts["pixel_decoder"]["conv_dim"] = parts["pixel_decoder"].pop("dim")
    (tmp_path / "train.json").write_text(json.dumps(early))
    settings.keep(tmp_path)
    with pytest.raises(FileExistsError, match="seed was 0, and is 1"):
        dataclasses.replace(settings, seed=1).keep(tmp_path)


def test_checkpoints_of_an_unknown_run_are_not_gone_on_with(tmp_path):
    (tmp_path / "checkpoints" / "100").mkdir(parents=True)
    settings = Settings(recipe=None, data="city", from_=None, seed=0, settings=recipe("streets"))
    with pytest.raises(FileExistsError, match=r"holds checkpoints, but no train\.json"):
        settings.keep(tmp_path)
    assert not (tmp_path / "train.json").exists()


def test_other_settings_are_not_mixed(folder, capsys):
    assert train(folder, "whole", "--learning-rate", "0.5") == 1
    error = capsys.readouterr().err
    assert "settings.train.optimizer.learning_rate was 0.0001, and is 0.5" in error


def test_starting_from_a_model_keeps_all_but_the_head_of_other_classes(saved):
    trained = Mask2Former.from_pretrained(saved)
    labels = things(CITYSCAPES)
    config = dataclasses.replace(trained.config, labels=labels, task="instance")
    model, fresh = start_from(saved, config, 0, "float32")
    assert fresh == ["decoder.heads.class_head.bias", "decoder.heads.class_head.kernel"]
    assert model.config.labels == labels
    ours, theirs = parameters_of(model), parameters_of(trained)
    for name in set(ours) - set(fresh):
        np.testing.assert_array_equal(ours[name][...], theirs[name][...], err_msg=name)
    assert ours[fresh[0]].shape == (len(labels) + 1,)
    _, nothing = start_from(saved, trained.config, 0, "float32")
    assert nothing == []


def test_a_model_of_another_architecture_is_refused(folder, capsys):
    model = GOLDEN / "tiny_w4_aligned" / "hf"
    assert train(folder, "other", "--from", model) == 1
    error = capsys.readouterr().err
    assert "can't be trained by this recipe: " in error
    assert "choose the recipe of the same architecture" in error


def test_faulty_labels_are_named_before_the_first_step(folder, tmp_path, capsys):
    shutil.copytree(folder / "city", tmp_path / "city")
    [path, *_] = sorted((tmp_path / "city" / "gtFine" / "train").rglob("*_instanceIds.png"))
    path.write_bytes(path.read_bytes()[:100])
    command = ["train", str(folder / "recipe.json"), "--data", str(tmp_path / "city")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert path.name in capsys.readouterr().err
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_full_disk_is_told_before_training(folder, monkeypatch, capsys):
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert main(arguments(folder, "full")) == 1
    assert "make room" in capsys.readouterr().err
