"""The rows of gpu.py, the most valuable first; each module has a row or a family of rows.

A row is a generator of a job. What comes before its only `yield` may share the machine with other
rows (tracing, compiling, loading weights); what comes after it has the GPU for itself. It returns
figures, a line of the table each, and details, which are only in the JSON. Its module is imported
in the row's own process, by what `suite` has. A new row is a generator and a line below.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WEIGHTS = "weights"  # others wait for what it writes
NO_GRAPHS = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer="}  # else kernels have no names
WINDOWS = {  # a row for each map that windows are in, by its place in `maps_of_stages`
    f"windows, stage {i // 2 + 1}" + ", shifted" * (i % 2): i for i in range(8)
}


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        title: what it shows.
        measure: the generator, as "module.function".
        limit: the most seconds that it has the device.
        arguments: the generator's arguments besides the job.
        after: rows that must have ended before it gets ready.
        alone: it gets ready with nothing beside it, since that is what it measures.
        slow_to_start: it compiles for minutes, so it starts first.
        environment: variables of its process.
    """

    title: str
    measure: str
    limit: float = 30
    arguments: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    alone: bool = False
    slow_to_start: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, job: Any) -> Any:
        """Returns the generator."""
        module, _, function = self.measure.rpartition(".")
        return getattr(importlib.import_module(f"gpu_rows.{module}"), function)(
            job, **self.arguments
        )


ROWS: Mapping[str, Row] = {
    WEIGHTS: Row("random weights for both sides", "weights.write"),
    "device": Row("what the device can do at most", "device.measure"),
    "exact": Row("operators and Segmenter beside a CPU's results", "exactness.compare", 60),
    "forward": Row("one image and its stages", "forward.measure"),
    **{
        name: Row(
            "attention in windows, every form and tiling",
            "windows.timing.measure",
            arguments={"index": i},
        )
        for name, i in WINDOWS.items()
    },
    "forward, cuDNN": Row("with cuDNN's attention", "forward.measure", arguments={"form": "cuDNN"}),
    "forward, plain": Row(
        "with attention in windows in XLA alone", "forward.measure", arguments={"form": "plain"}
    ),
    "forward, best": Row(
        "each map with its fastest form", "windows.timing.measure_best", after=tuple(WINDOWS)
    ),
    "path": Row("uint8 image to instances and maps on the host", "path.measure", 40),
    "transformers": Row("the peer, as it is", "transformers_forward.measure", 60),
    "transformers, compiled": Row(
        "the peer, by torch.compile", "transformers_forward.measure_compiled", slow_to_start=True
    ),
    "training": Row(
        "a training step", "training.measure", arguments={"name": "m2f-jax"}, slow_to_start=True
    ),
    "training, transformers": Row(
        "the peer's training step", "training.measure", 60, {"name": "transformers"}
    ),
    "batches": Row("many images at a time", "forward.measure_batches"),
    "operator": Row("deformable attention alone, both sides", "operators.measure_deformable"),
    "matching": Row("bipartite matching, ours and optax's", "operators.measure_matching", 60),
    "golden": Row("the authors' golden outputs, on the device", "exactness.run_golden_tests", 120),
    "forward, profile": Row(
        "kernels of the forward pass", "forward.profile", environment=NO_GRAPHS
    ),
    "training, profile": Row(
        "kernels of a training step", "training.profile", slow_to_start=True, environment=NO_GRAPHS
    ),
    "first call": Row("from nothing, and from the cache", "first_call.measure", 240, alone=True),
    "streets": Row("the model in the package, trained further", "streets.train", 24 * 3600),
}
