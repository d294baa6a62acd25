"""Fetches the wheels that gpu.py needs and a bare GPU machine lacks, and builds this project's own.

    python benchmarks/pack_wheels.py FOLDER

The bare machine is taken to have Python 3.12 on Linux (x86-64), JAX with its CUDA plugin, flax,
optax, orbax-checkpoint, PyTorch and transformers. There, without a network:

    python3 -m pip install --no-index --no-deps --target SITE FOLDER/*.whl
    PYTHONPATH=SITE python3 benchmarks/gpu.py --minutes 9 --out OUT
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PYTHON = "3.12"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (34, 28, 27, 24, 17, 12, 5)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]
PACKAGES = (
    "array-record",  # of grain
    "docstring-parser",  # of tyro
    "grain",
    "jax-triton==0.3.1",  # later ones want triton 3.7
    "portpicker",  # of grain
    "pycocotools",
    "tensorboardX",
    "typeguard",  # of tyro
    "tyro",
)
ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None):
    """Downloads and builds the wheels, and lists them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="of the wheels; made if it isn't there")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    subprocess.run(
        [
            *(*pip, "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)),
            *("--python-version", PYTHON, "--implementation", "cp", *platforms, *PACKAGES),
        ],
        check=True,
    )
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    for path in sorted(folder.glob("*.whl")):
        print(f"{path.name}  {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
