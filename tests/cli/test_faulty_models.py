"""Faulty checkpoints and exported models at every command that opens one: a line, and no files."""

import json
import pickle
import re
import shutil
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.inference.export.exported_file import HEADER_FILE, PROGRAM_FILE
from tests.conftest import GOLDEN

HUGGING_FACE = GOLDEN / "tiny_w4_aligned" / "hf"


def pickled(opcodes):
    def make(folder):
        (folder / "model.pkl").write_bytes(b"\x80\x04" + opcodes + b".")
        return folder / "model.pkl"

    return make


def hugging_face(changes=(), text=None, tensors=None, processor=None):
    """A folder of Hugging Face's with other fields, other text or other tensors."""

    def make(folder):
        shutil.copytree(HUGGING_FACE, folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(text or json.dumps(config | dict(changes)))
        if tensors is not None:
            arrays = tensors(safetensors.numpy.load_file(folder / "model.safetensors"))
            safetensors.numpy.save_file(arrays, folder / "model.safetensors")
        if processor is not None:
            (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        return folder

    return make


def with_nan(arrays):
    arrays["class_predictor.bias"] = np.full_like(arrays["class_predictor.bias"], np.nan)
    return arrays


def bomb(folder):
    with zipfile.ZipFile(folder / "model.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**24))
    return folder / "model.pth"


def state_dict(folder):
    arrays = safetensors.numpy.load_file(HUGGING_FACE / "model.safetensors")
    (folder / "model.pkl").write_bytes(pickle.dumps(arrays, 2))
    return folder / "model.pkl"


def exported(header):
    def make(folder):
        with zipfile.ZipFile(folder / "model.m2f", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(HEADER_FILE, header)
            archive.writestr(PROGRAM_FILE, b"program")
        return folder / "model.m2f"

    return make


# An exported model is nothing to convert.
NO_MODEL = (
    r"model\.m2f (isn't an exported model, or is damaged|is an exported model, which is a program)"
)
FAULTY = {  # what makes it, and what is said of it
    "a deep tuple": (pickled(b"})" + b"\x85" * 2000 + b"Ns"), "model.pkl has a tuple as a key"),
    "a doubled tuple": (pickled(b"})" + b"2\x86" * 60 + b"Ns"), "model.pkl has a tuple as a key"),
    "16 GB": (pickled(b"\x96" + struct.pack("<Q", 2**34)), "model.pkl is a pickle that is incompl"),
    "a bomb": (bomb, "model.pth has archive/data.pkl compressed"),
    "a state dict": (state_dict, "model.pkl holds the weights of transformers' model"),
    "layers": (hugging_face({"decoder_layers": 2 * 10**9}), "num_layers must be from 1 to 200"),
    "architectures": (hugging_face({"architectures": 1.5}), "architectures needs a list, not 1.5"),
    "brackets": (hugging_face(text='{"a":' * 10**5), "config.json is nested too deeply"),
    "size_divisor": (hugging_face(processor={"size_divisor": 0}), "size_divisor must be from 1"),
    "shortest_edge": (hugging_face(processor={"size": 0}), "shortest_edge must be from 1"),
    "no header": (exported(b"[]"), NO_MODEL),
    "a deep header": (exported(b"[" * 10**5), NO_MODEL),
}


def command(name, model, folder):
    if name == "predict":
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        return ["predict", str(folder / "a.png"), "--model", str(model), "--out", str(folder / "o")]
    return [name, str(model)] + [str(folder / "o")] * (name == "convert")


@pytest.mark.parametrize("entry", ["convert", "info", "predict"])
@pytest.mark.parametrize("fault", FAULTY)
def test_faulty_models_are_refused_in_a_line(tmp_path, capsys, fault, entry):
    make, message = FAULTY[fault]
    (tmp_path / "model").mkdir()
    assert main(command(entry, make(tmp_path / "model"), tmp_path)) == 1
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert str(tmp_path / "model") in said
    assert said.count("\n") == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("entry", ["convert", "predict"])
def test_numbers_that_are_not_finite(tmp_path, capsys, entry):
    (tmp_path / "model").mkdir()
    model = hugging_face(tensors=with_nan)(tmp_path / "model")
    assert main(command(entry, model, tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"{model}/model.safetensors: 4 of the 4 numbers of class_predictor.bias aren't" in said
    assert said.count("\n") == 1
    assert not list((tmp_path / "o").glob("*"))


def test_labels_are_named_on_the_command_line(tmp_path, capsys):
    (tmp_path / "names.txt").write_text("cat\ndog\nhorse\n")
    pkl = str(GOLDEN / "tiny_w4_aligned" / "model_final.pkl")
    assert main(["info", pkl, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["class 0", "class 1", "class 2"]
    named = ["--labels", str(tmp_path / "names.txt")]
    assert main(["info", pkl, "--json", *named]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["cat", "dog", "horse"]
    assert main(["convert", pkl, str(tmp_path / "o"), *named]) == 0
    config = json.loads((tmp_path / "o" / "config.json").read_text())
    assert [label["name"] for label in config["labels"]] == ["cat", "dog", "horse"]
    assert main(["convert", pkl, str(tmp_path / "p"), "--labels", "coco"]) == 1
    assert "has 3 classes, and coco has 133, of which 80 are things" in capsys.readouterr().err
