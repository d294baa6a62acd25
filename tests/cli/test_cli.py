"""The command line as its users meet it: hostile files, converting, facts, usage."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from m2f_jax.cli import main
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
    assert main(["info", "facebook/mask2former-swin-large-cityscapes-instance"]) == 0
    shown = capsys.readouterr().out
    assert "215,503,485" in shown
    assert "AP 43.7" in shown
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


def test_published_models_are_listed(capsys):
    assert main(["models", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(PRESETS)
    assert main(["models", "ResNet", "cityscapes", "instance", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["resnet50-cityscapes-instance", "resnet101-cityscapes-instance"]
    first = found["resnet50-cityscapes-instance"]
    assert first["published scores (%)"] == {"AP": 37.4, "AP50": 61.9}
    assert first["authors' file"] == "model_final_01a8ed.pkl"
    assert main(["models", "large", "cityscapes-instance"]) == 0
    [title, row] = capsys.readouterr().out.splitlines()
    assert row.split() == [
        *("swin-large-cityscapes-instance", "8", "AP", "43.7,", "AP50", "71.4", "dfa862"),
    ]
    assert title.split()[:2] == ["model", "classes"]
    assert main(["models", "yolo"]) == 1
    assert capsys.readouterr().err.startswith("m2f: no published model has 'yolo' in its name")
