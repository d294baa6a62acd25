"""What was run, when and by which version, to be kept with its results."""

import datetime
import importlib.metadata
import platform
import shlex
import sys
from pathlib import PurePath

PACKAGES = ("jax", "flax", "numpy", "pycocotools")


def provenance() -> dict[str, str]:
    """Returns the version, the date (UTC), the command and the versions of what numbers hang on."""
    now = datetime.datetime.now(datetime.UTC)
    command = shlex.join([PurePath(sys.argv[0]).name, *sys.argv[1:]])
    packages = [f"{name} {version_of(name)}" for name in PACKAGES]
    return {
        "version": version_of("m2f-jax"),
        "date": now.isoformat(timespec="seconds"),
        "command": command,
        "packages": ", ".join([f"Python {platform.python_version()}", *packages]),
    }


def version_of(package: str) -> str:
    """Returns the version of a package; "unknown" where it isn't installed but merely found."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
