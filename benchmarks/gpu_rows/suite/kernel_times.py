"""Which kernels of a GPU take the time of a call, read off a profile."""

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

SHOWN = 60  # kernels
KEPT = ("name", "kernel_details", "memcpy_details")  # of what is known of a kernel


def kernel_times(call: Callable[[], Any], calls: int) -> dict[str, Any]:
    """Returns the milliseconds of one call by kernel, the longest first.

    Args:
        call: waits for its result.
        calls: how many are profiled.
    """
    call()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                call()
        [path] = Path(folder).rglob("*.xplane.pb")
        profile = ProfileData.from_file(str(path))
    times: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    modules: collections.Counter[str] = collections.Counter()
    scopes: collections.Counter[str] = collections.Counter()
    of: dict[str, dict[str, str]] = {}
    for plane in profile.planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                stats = {str(key): str(value) for key, value in event.stats}
                name = stats.get("hlo_op") or event.name
                ms = event.duration_ns / 1e6 / calls
                times[name] += ms
                modules[stats.get("hlo_module") or event.name] += ms
                scopes["/".join(stats.get("name", "unnamed").split("/")[1:4])] += ms
                counts[name] += 1
                shown = {key: stats[key] for key in KEPT if key in stats}
                of.setdefault(name, {"kernel": event.name, **shown})
    return {
        "total ms": sum(times.values()),
        "kernels": sum(counts.values()) / calls,
        "ms by program": dict(modules.most_common(20)),
        "ms by scope": dict(scopes.most_common(60)),
        "longest": [
            {"op": name, "ms": ms, "count": counts[name] / calls, **of[name]}
            for name, ms in times.most_common(SHOWN)
        ],
    }
