"""The command line as its users meet it: hostile files, converting, facts, usage."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.cli.commands import info
from m2f_jax.presets import PRESETS
from tests.conftest import GOLDEN

MODEL = str(GOLDEN / "tiny_w7_odd" / "hf")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "street.png"
    Image.new("RGB", (75, 58)).save(path)
    return path


class Exploit:
    def __reduce__(self):
        return (Path.touch, (Path("exploited"),))


@pytest.mark.parametrize("command", ["predict", "convert", "info"])
def test_a_malicious_pickle_is_refused(command, image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("evil.pkl").write_bytes(pickle.dumps({"model": {"weight": Exploit()}}))
    arguments = {
        "predict": [str(image), "--model", "evil.pkl"],
        "convert": ["evil.pkl", "folder"],
        "info": ["evil.pkl"],
    }[command]
    assert main([command, *arguments]) == 1
    error = capsys.readouterr().err
    assert "evil.pkl" in error
    assert error.count("\n") == 1
    assert not Path("exploited").exists()
    assert not Path("folder").exists()


def test_convert_there_and_back(tmp_path, capsys):
    pkl = str(GOLDEN / "tiny_w4_aligned" / "model_final.pkl")
    assert main(["convert", pkl, str(tmp_path / "ours")]) == 0
    assert "3 classes" in capsys.readouterr().out
    assert main(["convert", pkl, str(tmp_path / "ours")]) == 1
    assert "holds a model already" in capsys.readouterr().err
    back = ["convert", "--to", "huggingface", str(tmp_path / "ours"), str(tmp_path / "theirs")]
    assert main(back) == 0
    assert json.loads((tmp_path / "theirs" / "config.json").read_text())["num_queries"] == 12


def test_info_of_files_and_of_published_names(capsys):
    assert main(["info", MODEL, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"]["all"] == 233_021
    assert facts["config"]["decoder"]["num_queries"] == 14
    assert main(["info", "resnet50-coco-instance"]) == 0
    shown = capsys.readouterr().out
    assert "43,970,257" in shown
    assert "AP 43.7" in shown
    assert "hub" not in shown  # it isn't there
    assert main(["info", MODEL, "--json", "--memory", "64", "96"]) == 0
    assert json.loads(capsys.readouterr().out)["compiled"]["temporaries (MiB)"] > 0


def test_wrong_usage_exits_with_2():
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--no-such-option"])
    assert stop.value.code == 2


def test_help_does_not_wait_for_jax():
    code = (
        "import sys; from m2f_jax.cli import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True)


def listed(capsys, *words):
    assert main(["models", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_published_models_are_listed(capsys):
    assert list(listed(capsys)) == list(PRESETS)
    assert list(listed(capsys, "maskformer")) == [x for x in PRESETS if x.startswith("maskformer-")]
    assert listed(capsys, "resnet50-cityscapes-instance") == {
        "resnet50-cityscapes-instance": {
            "architecture": "mask2former",
            "data set": "Cityscapes",
            "task": "instance",
            "classes": 8,
            "queries": 100,
            "parameters": 43_951_753,
            "shortest_edge": 1024,
            "longest_edge": 2048,
            "published scores (%)": {"AP": 37.4, "AP50": 61.9},
            "authors' file": "model_final_01a8ed.pkl",
            "hub": None,
            "licence": "CC BY-NC 4.0",
        }
    }
    assert main(["models", "large", "coco"]) == 0
    title, instance, panoptic, *_ = capsys.readouterr().out.splitlines()
    assert title.split() == ["model", "PQ", "AP", "mIoU", "size", "M", "hub", "file"]
    assert instance.split()[:2] == ["swin-large-coco-instance", "50.1"]
    assert panoptic.split() == [
        *("swin-large-coco-panoptic", "57.8", "48.6", "67.4"),
        *("800/1333", "215.5", "hub", "f07440"),
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["ResNet", "cityscapes", "instance"], ["resnet50-cityscapes-instance",
                                                "resnet101-cityscapes-instance"]),
        (["Vistas", "semantic", "swin"], ["swin-large-mapillary-vistas-semantic"]),
        (["ADE20K", "semantic", "50"], ["resnet50-ade-semantic",  # and no file with a 50 in it
                                        "maskformer-resnet50-ade",
                                        "maskformer-resnet50-ade20k-full"]),
        (["dfa862"], ["swin-large-cityscapes-instance"]),
        (["model_final_dfa862.pkl"], ["swin-large-cityscapes-instance"]),
        (["facebook/mask2former-swin-large-ade-panoptic"], ["swin-large-ade-panoptic"]),
    ],
)  # fmt: skip
def test_words_choose_among_published_models(capsys, words, names):
    assert list(listed(capsys, *words)) == names


def test_words_that_fit_no_published_model(capsys):
    assert main(["models", "swin", "yolo"]) == 1
    assert capsys.readouterr().err == (
        "m2f: no published model fits 'swin' and 'yolo'; m2f models lists all\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        "swin-large-cityscapes-instance",
        "facebook/mask2former-swin-large-cityscapes-instance",
        "model_final_dfa862.pkl",
    ],
)
def test_info_of_a_published_model_fetches_nothing(capsys, monkeypatch, source):
    monkeypatch.setattr(info, "load", None)
    assert main(["info", source, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"]["all"] == 215_503_485
    assert facts["input size"] == {
        "shortest_edge": 1024, "longest_edge": 2048, "multiple_of": 32,
    }  # fmt: skip
    assert facts["published scores (%)"] == {"AP": 43.7, "AP50": 71.4}
    assert (facts["data set"], facts["licence"]) == ("Cityscapes", "CC BY-NC 4.0")
    assert facts["hub"] == "facebook/mask2former-swin-large-cityscapes-instance"


@pytest.mark.parametrize(
    "source",
    ["somebody/swin-tiny-coco-instance", "files/model_final_dfa862.pkl", "swin-tiny-coco.pkl"],
)
def test_info_of_what_is_only_called_so_looks_for_it(monkeypatch, capsys, source):
    def load(source, **_):
        raise FileNotFoundError(f"{source} is missing")

    monkeypatch.setattr(info, "load", load)
    assert main(["info", source]) == 1
    assert capsys.readouterr().err == f"m2f: {source} is missing\n"
