"""A server on loopback with a model that finds bright pixels."""

import numpy as np
import pytest

from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.labels import Label

LABELS = (
    Label(id=7, name="road", is_thing=False),
    Label(id=26, name="car", is_thing=True),
)


class BrightPixels:
    """In place of a `Segmenter`: the left and the right half of what is bright."""

    running = 0
    together = 0

    def __call__(self, pixels, task, *, top_k, threshold):
        assert top_k == 100  # one compiled program
        type(self).running += 1
        type(self).together = max(self.together, self.running)
        try:
            return self.segment(pixels, task, threshold)
        finally:
            type(self).running -= 1

    def segment(self, pixels, task, threshold):
        if pixels.shape[:2] == (13, 13):
            raise RuntimeError("the device is gone")
        bright = pixels.mean(axis=2) > 128
        left = np.arange(pixels.shape[1]) < pixels.shape[1] // 2
        if task == "semantic":
            return bright.astype(int)
        if task == "panoptic":
            segments = [
                Segment(id=i + 1, label=i, is_thing=bool(i), score=0.9)
                for i in range(2)
                if (bright == i).any()
            ]
            return PanopticSegmentation(segment_map=bright + 1, segments=tuple(segments))
        found = InstanceSegmentation.from_masks(
            scores=np.array([0.9, 0.3], np.float32),
            labels=np.array([1, 1]),
            masks=np.stack([bright & left, bright & ~left]),
            queries=np.arange(2),
        )
        return found.select(found.scores >= threshold)


@pytest.fixture(scope="session")
def address():
    """Of a running server; what the segmenter counted is in `BrightPixels`."""
    pytest.importorskip("gradio", reason="needs the extra app: gradio")
    from m2f_jax.app.engine import Engine
    from m2f_jax.app.server import launch, make_server

    note = "this model is a toy; for photographs: m2f app --model SOURCE"
    engine = Engine("toy", BrightPixels(), LABELS, "instance", note)
    server = make_server(engine, max_bytes=2**20, local=True)
    yield launch(server, "127.0.0.1", None).rstrip("/")
    server.get_blocks().close(verbose=False)
