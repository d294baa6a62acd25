"""The files of examples/scaling, and the count of what many images cost."""

import shutil
import subprocess

import cost_of_scale
import pytest
import tyro
import yaml

from m2f_jax.cli.running import COMMANDS
from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "scaling"
SCRIPTS = sorted(x.name for x in FOLDER.glob("*.sbatch"))
YAMLS = sorted(x.name for x in FOLDER.glob("*.yaml"))


def check_command(words: list[str]):
    """Refuses a command line of m2f that the command line parser would."""
    assert words[0] == "m2f"
    tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        args=words[1:],
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_for_slurm(name):
    text = (FOLDER / name).read_text()
    subprocess.run(["bash", "-n", str(FOLDER / name)], check=True)
    first, *lines = text.splitlines()
    assert first == "#!/bin/bash"
    options = [x for x in lines if x.startswith("#SBATCH")]
    assert options == [x for x in options if x.removeprefix("#SBATCH --").split("=")[0].isascii()]
    code = next(i for i, x in enumerate(lines) if x and not x.startswith("#"))
    assert not [x for x in lines[code:] if x.startswith("#SBATCH")]  # SLURM would ignore it
    joined = text.replace("\\\n", " ")
    [line] = [x for x in joined.splitlines() if " m2f " in x and not x.startswith("#")]
    check_command(line[line.index(" m2f ") :].replace('"', "").split())


@pytest.mark.parametrize("name", YAMLS)
def test_files_for_kubernetes(name):
    documents = list(yaml.safe_load_all((FOLDER / name).read_text()))
    assert all({"apiVersion", "kind", "metadata", "spec"} == set(x) for x in documents)
    spec = documents[-1]["spec"]
    if documents[-1]["kind"] == "RayJob":
        check_command(spec["entrypoint"].split())
        return
    service, job = documents
    [container] = job["spec"]["template"]["spec"]["containers"]
    command = container["command"]
    last = [x if "$(" not in x else x.split("$(")[0] + "3" for x in command]
    check_command(last)
    assert f"--num-processes={job['spec']['completions']}" in command
    assert job["spec"]["parallelism"] == job["spec"]["completions"]  # they wait for each other
    names = {service["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]}
    assert names == {job["metadata"]["name"]}
    assert f"--coordinator-address={job['metadata']['name']}-0.{names.pop()}:8476" in command


def test_the_count_is_that_of_the_page(capsys):
    cost_of_scale.main(cost_of_scale.Prices())
    printed = capsys.readouterr().out
    page = (ROOT / "docs" / "scaling.md").read_text()
    tables = [x for x in printed.splitlines() if x.startswith(("|", "Images: "))]
    assert len(tables) > 10
    assert [x for x in tables if x not in page] == []  # python benchmarks/cost_of_scale.py


def test_what_one_device_costs():
    prices = cost_of_scale.Prices(use=0.5, hours=10)
    speed = cost_of_scale.Speed("model", "device", 10.0, 2)
    table = cost_of_scale.table(prices, 3_600_000, [speed])
    assert table.lines == [["model", "device", "10.0", "200", "20", "400"]]
    assert "Images: 720 GB. Results: 18 GB in 7,032 parts, $ 0.41 a month" in cost_of_scale.storage(
        prices, 3_600_000
    )
