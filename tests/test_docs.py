"""The code of the pages runs."""

import dataclasses
import importlib
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP
from PIL import Image

from m2f_jax.cli import running
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import CITYSCAPES
from m2f_jax.streets import write_streets
from m2f_jax.training import initialize
from tests.conftest import MICRO, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, *languages: str) -> list[str]:
    """The blocks of code on a page."""
    pattern = rf"```(?:{'|'.join(languages)})\n(.*?)```"
    return re.findall(pattern, page.read_text(), re.DOTALL)


def commands_of(page: Path) -> list[list[str]]:
    """The arguments of every `m2f` on a page; pipes end them."""
    text = "\n".join(blocks(page, "sh", "bash")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if "m2f " in line]
    found = [words[1:] for words in lines if words[:1] == ["m2f"]]
    return [words[: words.index("|")] if "|" in words else words for words in found]


def test_commands_have_their_options(monkeypatch):
    """Every command on every page is read as `m2f` reads it; what it would do is left out."""
    read = []
    monkeypatch.setattr(running, "use_compilation_cache", lambda: None)
    module = SimpleNamespace(run=lambda command: read.append(command) or 0)
    monkeypatch.setattr(running, "importlib", SimpleNamespace(import_module=lambda _: module))
    wanted = {tuple(words): page.name for page in PAGES for words in commands_of(page)}
    for words, page in wanted.items():
        try:
            assert running.run(words) == 0
        except SystemExit as error:
            raise AssertionError(f"{page}: m2f {shlex.join(words)}") from error
    assert len(read) == len(wanted) > 40


def test_extending():
    """Its blocks are one program; in a process of its own, since it adds to our tables."""
    with tempfile.TemporaryDirectory() as folder:
        program = "\n".join(blocks(ROOT / "docs" / "extending.md", "python"))
        assert program.count("\n") > 50
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with all that the pages name: small models, pictures and a data set."""
    folder = tmp_path_factory.mktemp("workplace")
    pixel_decoder = dataclasses.replace(MICRO.pixel_decoder, num_points=4)
    config = dataclasses.replace(MICRO, labels=CITYSCAPES, pixel_decoder=pixel_decoder)
    for name in ("tiny-coco-instance", "large-cityscapes-instance"):
        source = folder / "facebook" / f"mask2former-swin-{name}"
        initialize(config).save_pretrained(source)
        ImageProcessor(shortest_edge=32, longest_edge=64).save_pretrained(source)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 128, 3), dtype=np.uint8)
    (folder / "examples").mkdir()
    for name in ("street", "a", "b", "0", "1", "2", "examples/street"):
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    write_streets(folder / "data", 1, (128, 256), seed=0)
    return folder


def globals_of_evaluate() -> dict[str, Any]:
    """One image of ground truth and predictions, and what another process counted."""
    masks, ids = np.zeros((1, 4, 4), bool), np.zeros((4, 4), np.int32)
    masks[0, :2], ids[:2] = True, 26_000
    return {
        "instance_ids": ids,
        "masks": masks,
        "labels": np.array([26]),
        "scores": np.array([0.5]),
        "other": CityscapesInstanceAP(),
    }


PROGRAMS = {  # the first blocks of a page that run, as one program, and what they don't define
    "README": (1, dict),
    "docs/predict": (3, lambda: {"paths": ["a.jpg", "b.jpg"]}),
    "docs/evaluate": (2, globals_of_evaluate),
    "docs/export": (2, dict),
    "docs/convert": (1, dict),
}
ELSEWHERE = {  # how many other blocks a page has, and why they don't run here
    "docs/convert": (1, "a part that isn't there; docs/extending.md has one that is"),
    "docs/app": (1, "tests/app/test_server.py"),
    "docs/evaluate": (1, "tests/eval/predictions/coco/test_fiftyone.py"),
    "docs/export": (1, "tests/inference/test_onnx.py"),
    "docs/extending": (6, "test_extending"),
    "docs/publish": (1, "needs the hub"),
    "docs/scaling": (2, "needs a cluster; tests/ray/test_ray.py"),
    "docs/train": (4, "tests/training/losses/test_adding_a_loss.py, tests/test_examples.py"),
    "docs/video": (1, "tests/test_golden_video.py, tests/test_video_kinds.py"),
}


@pytest.mark.parametrize("page", PROGRAMS)
def test_code_runs(page, workplace, monkeypatch):
    count, names = PROGRAMS[page]
    program = "\n".join(blocks(ROOT / f"{page}.md", "python")[:count])
    small = program.replace('"streets"', '"facebook/mask2former-swin-tiny-coco-instance"')
    monkeypatch.chdir(workplace)
    exec(compile(small.replace("(512, 1024)", "(64, 128)"), page, "exec"), names())


def test_no_block_is_forgotten():
    """A new block runs, or its page says why it doesn't."""
    for page in PAGES:
        name = str(page.relative_to(ROOT).with_suffix(""))
        known = PROGRAMS.get(name, (0,))[0] + ELSEWHERE.get(name, (0,))[0]
        assert len(blocks(page, "python")) == known, page.name


def test_the_page_of_models_is_that_of_the_presets():
    script = runpy.run_path(str(ROOT / "docs" / "generate_models.py"))
    assert (ROOT / "docs" / "models.md").read_text() == script["make_page"](), (
        "run python docs/generate_models.py"
    )


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "package", ["m2f_jax", "m2f_jax.training", "m2f_jax.convert", "m2f_jax.eval"]
)
def test_public_names_are_in_the_api(package):
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    public = {f"{package}.{name}" for name in importlib.import_module(package).__all__}
    assert public <= set(shown), f"missing in docs/api/: {sorted(public - set(shown))}"
    assert len(set(shown)) == len(shown)


def test_all_pages_are_in_the_navigation():
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    docs = ROOT / "docs"
    assert sorted(listed) == sorted(str(x.relative_to(docs)) for x in docs.rglob("*.md"))


def test_the_site_leads_to_files_of_the_repository():
    script = runpy.run_path(str(ROOT / "docs" / "build_site.py"))
    page = "[a](../eval/report/) [b](../README.md#speed) [c](predict.md) [d](../docs/train.md)"
    web = f"{script['REPOSITORY']}/%s/main"
    assert script["to_repository"](page, ROOT / "docs") == (
        f"[a]({web % 'tree'}/eval/report) [b]({web % 'blob'}/README.md#speed) [c](predict.md) "
        "[d](../docs/train.md)"
    )
    with pytest.raises(FileNotFoundError):
        script["to_repository"]("[a](../nowhere.py)", ROOT / "docs")
