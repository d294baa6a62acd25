"""The kernel for NVIDIA GPUs computes what the plain form computes, in Triton's interpreter."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.optimized


@pytest.mark.torch
@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs triton, which PyTorch's build for CUDA brings: pip install triton",
)
def test_equals_the_plain_form():
    script = Path(__file__).with_name("interpreted_kernel.py")
    done = subprocess.run(
        [sys.executable, "-P", str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6  # three cases, not shifted and shifted
