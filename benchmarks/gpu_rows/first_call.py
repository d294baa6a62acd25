"""The first call of a fresh process."""

import json
import os
import subprocess
import sys
import tempfile

from gpu_rows.suite.job import Job, Measuring, figure

SCRIPT = """
import json, time
start = time.perf_counter()
import numpy as np
from m2f_jax import ImageProcessor, Mask2Former, Segmenter
size = {size}
model = Mask2Former.from_pretrained({folder!r}, "bfloat16")
segmenter = Segmenter(model, ImageProcessor(shortest_edge=min(size), longest_edge=max(size)))
loaded = time.perf_counter()
segmenter(np.zeros((*size, 3), np.uint8), "instance").scores
print(json.dumps([loaded - start, time.perf_counter() - loaded]))
"""


def measure(job: Job) -> Measuring:
    """Measures the first image of a fresh process, with nothing compiled, then from the cache."""
    script = SCRIPT.format(folder=str(job.weights()), size=job.scale.size)
    yield
    figures = []
    with tempfile.TemporaryDirectory(dir=job.out) as cache:
        for name in ("nothing compiled", "from the persistent cache"):
            done = subprocess.run(
                [sys.executable, "-P", "-c", script],
                env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            loaded, first = json.loads(done.stdout.splitlines()[-1])
            figures += [
                figure(f"import and load, {name}", loaded, "s"),
                figure(f"first image, {name}", first, "s"),
            ]
    return figures, {}
