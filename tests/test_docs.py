"""The code of the pages runs."""

import importlib
import re
import runpy
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("page", ["extending"])
def test_code_runs(page, tmp_path):
    """Its blocks are one program; in a process of its own, since it adds to our tables."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert program.count("\n") > 50
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-P", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_of_models_is_that_of_the_presets():
    script = runpy.run_path(str(ROOT / "docs" / "generate_models.py"))
    assert (ROOT / "docs" / "models.md").read_text() == script["make_page"](), (
        "run python docs/generate_models.py"
    )


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for page in [*pages, ROOT / "benchmarks" / "README.md"]:
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
