"""Builds the documentation as a site in build/site, by python docs/build_site.py (the extra docs).

The pages are laid out as the site needs them first: links to files of the repository lead to where
they are read on the web, and the packages beside m2f_jax/ lie in it, as they are installed.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS, BUILD = ROOT / "docs", ROOT / "build"
PAGES, PACKAGE = BUILD / "pages", BUILD / "package"  # which mkdocs.yml names
REPOSITORY = "https://github.com/m2f-jax/m2f-jax"
BESIDE = ("convert", "eval")
SHOWN = (".md", ".jpg", ".png", ".svg", ".json", ".css")
UPWARDS = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def to_repository(markdown: str, folder: Path) -> str:
    """Returns a page whose links to files outside docs/ lead to the repository on the web.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def leading(match: re.Match[str]) -> str:
        target = (folder / match["path"]).resolve(strict=True)
        if target.is_relative_to(DOCS):
            return match.group()
        kind = "tree" if target.is_dir() else "blob"
        address = f"{REPOSITORY}/{kind}/main/{target.relative_to(ROOT).as_posix()}"
        return f"]({address}{match['anchor'] or ''})"

    return UPWARDS.sub(leading, markdown)


def lay_out():
    """Writes the pages and the package for the site."""
    for folder in (PAGES, PACKAGE):
        shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(DOCS.rglob("*")):
        if path.suffix in SHOWN:
            target = PAGES / path.relative_to(DOCS)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                target.write_text(to_repository(path.read_text(), path.parent))
            else:
                shutil.copyfile(path, target)
    code = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "m2f_jax", PACKAGE / "m2f_jax", ignore=code)
    for name in BESIDE:
        shutil.copytree(ROOT / name, PACKAGE / "m2f_jax" / name, ignore=code)


def main() -> int:
    """Builds the site and returns the exit status: a warning is an error."""
    lay_out()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
