"""The backbone's attention in windows: every form of it for every map, and the best together."""

import jax
from measuring.timing import Call

from gpu_rows import WINDOWS
from gpu_rows.forward import load_parts, time_parts
from gpu_rows.suite.job import Job, Measuring, time_call
from gpu_rows.windows.forms import (
    CALLS,
    DTYPE,
    Map,
    by_map,
    check,
    draw,
    forms_of,
    maps_of_stages,
    reference,
)
from m2f_jax.config import SwinConfig
from m2f_jax.files import read_json


def maps_of(job: Job) -> list[Map]:
    """Returns the maps of the backbone."""
    swin = job.scale.config.backbone
    assert isinstance(swin, SwinConfig)
    return maps_of_stages(swin, job.scale.size)


def measure(job: Job, index: int) -> Measuring:
    """Measures attention in windows alone on one map, in every form and tiling."""
    shape = maps_of(job)[index]
    with jax.default_device(job.jax_device()):
        inputs = [draw(shape, DTYPE, seed) for seed in range(CALLS)]
        want = reference(shape, inputs[0])
        calls, failed, errors = {}, {}, {}
        for name, attend in forms_of(shape, job.device).items():
            run = jax.jit(lambda inputs, attend=attend: [attend(*arrays) for arrays in inputs])
            try:
                program = run.lower(inputs).compile()
                first, *_ = program(inputs)
                errors[name] = check(f"{name} for {shape}", first, want)
                calls[name] = Call(lambda program=program: program(inputs), jax.block_until_ready)
            except Exception as error:  # a tiling that this GPU has no room for, of whatever kind
                if name == "plain":
                    raise
                failed[name] = f"{type(error).__name__}: {error}"[:300]
    yield
    figures = []
    for name, call in calls.items():
        found = time_call(name, call)
        figures.append(found | {key: found[key] / CALLS for key in ("value", "least", "most")})
    return figures, {"failed": failed, "errors": errors}


def measure_best(job: Job) -> Measuring:
    """Measures the forward pass with the fastest form of attention in windows for each map."""
    rows = read_json(job.out / "gpu.json")["rows"]
    best, chosen = {}, {}
    for shape, row in zip(maps_of(job), WINDOWS, strict=True):
        figures = rows[row].get("figures", ())
        times = {x["what"]: x["value"] for x in figures if x["unit"] == "ms"}
        chosen[str(shape)] = fastest = min(times, key=times.__getitem__)
        best[shape] = forms_of(shape, job.device)[fastest]
    parts = load_parts(job, 1, job.scale.size, form=by_map(best))
    yield
    return time_parts(parts, 1, job.scale.size), {"chosen": chosen}
