"""Weights that both sides load."""

import shutil

from peers.weights import save_random_weights

from gpu_rows import WEIGHTS
from gpu_rows.suite.job import COMPLETE, Job, Measuring, figure


def write(job: Job) -> Measuring:
    """Writes random weights in both formats, once; other rows wait for them."""
    folder = job.out / WEIGHTS
    if not (folder / COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        save_random_weights(job.scale.config, folder)
        (folder / COMPLETE).touch()
    yield
    size = (folder / "model.safetensors").stat().st_size
    return [figure("weights", size / 2**20, "MiB")], {}
