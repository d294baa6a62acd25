"""The code of the pages runs."""

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
