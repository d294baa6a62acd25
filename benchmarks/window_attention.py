"""Times window attention as one kernel on an NVIDIA GPU beside the plain form of this project.

    python benchmarks/window_attention.py --preset swin-large-cityscapes-instance --size 1024 2048

The kernel is in window_attention_kernel.py beside this file; README.md says what is known of it. It
is checked on small maps of many shapes, then on the maps of every stage of the backbone, for which
all tilings are timed. At last it stands in for the plain form in the whole network, with the
fastest tiling of each map. A wrong result ends the program with an error.

It needs an NVIDIA GPU and jax-triton: pip install 'm2f-jax[cuda12]' jax-triton
"""

import argparse
import dataclasses
import functools
import importlib.util
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from reporting import Grid, add_report_options, publish, say, text_of

from m2f_jax.config import Mask2FormerConfig, SwinConfig
from m2f_jax.modeling.backbones import swin
from m2f_jax.modeling.mask2former import Mask2Former, network
from m2f_jax.modeling.parameters import abstract_model, fill, parameter_shapes, stored_dtype
from m2f_jax.ops.window_attention import window_attention
from m2f_jax.presets import PRESETS, preset

if TYPE_CHECKING:
    from window_attention_kernel import Tiling

DTYPE = jnp.bfloat16  # of what is timed
CHECKED = (jnp.bfloat16, jnp.float16)
CALLS = 8  # that are timed together, so that their start takes no part
NEEDS = "an NVIDIA GPU and jax-triton: pip install 'm2f-jax[cuda12]' jax-triton"

Arrays = tuple[jax.Array, jax.Array, jax.Array]  # qkv, padding and bias
Attend = Callable[..., jax.Array]


class Map(NamedTuple):
    """The shape of what is attended to, and how."""

    batch: int
    height: int
    width: int
    heads: int
    head_width: int
    window_size: int
    shifted: bool

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `window_attention`."""
        return {"window_size": self.window_size, "shifted": self.shifted}

    def __str__(self) -> str:
        shifted = ", shifted" if self.shifted else ""
        return f"{self.height} x {self.width}, {self.heads} heads{shifted}"


SMALL = (  # maps that need padding and that don't, of one window and of many
    Map(1, 25, 33, 2, 32, 12, True),
    Map(2, 24, 24, 3, 32, 12, False),
    Map(1, 9, 11, 1, 32, 12, True),
    Map(1, 25, 33, 2, 16, 12, True),
    Map(1, 25, 33, 2, 64, 12, True),
    Map(2, 15, 20, 2, 32, 7, False),
    Map(2, 15, 20, 2, 32, 7, True),
    Map(2, 17, 24, 2, 32, 8, True),
    Map(1, 9, 9, 2, 32, 4, True),
)


def maps_of_stages(cfg: SwinConfig, size: tuple[int, int]) -> list[Map]:
    """What each stage attends to for one image of that size, not shifted and shifted."""
    height, width = (-(-side // swin.PATCH_SIZE) for side in size)
    maps = []
    for dim, heads in zip(cfg.dims, cfg.num_heads, strict=True):
        shape = (1, height, width, heads, dim // heads, cfg.window_size)
        maps += [Map(*shape, shifted) for shifted in (False, True)]
        height, width = -(-height // 2), -(-width // 2)
    return maps


def tilings(window_size: int) -> list["Tiling"]:
    """Those that are compared; the first is the default."""
    from window_attention_kernel import Tiling

    def whole_window(block_q: int, **options: Any) -> Tiling:
        return Tiling(block_q, -(-(window_size**2) // block_q), **options)

    found = [
        whole_window(64),
        whole_window(64, unroll=True),
        whole_window(64, num_warps=8),
        whole_window(64, windows=2),
        *(whole_window(64, group=group) for group in (1, 32, 4096)),
        Tiling(64, 1),
        Tiling(64, 1, windows=4),
        Tiling(64, 1, windows=4, num_stages=2),
        whole_window(128, num_warps=8),
        whole_window(32, num_warps=2),
        whole_window(32, num_warps=1),
        Tiling(32, 1, num_warps=2),
        whole_window(16, num_warps=1),
        Tiling(16, 3, num_warps=1),
    ]
    return list(dict.fromkeys(found))


def describe(tiling: "Tiling") -> str:
    """Tiles and queries of each, and what isn't as usual."""
    usual = {field.name: field.default for field in dataclasses.fields(tiling)}
    values = dataclasses.asdict(tiling)
    tiles, block_q = values.pop("tiles"), values.pop("block_q")
    unusual = (f", {name} {value}" for name, value in values.items() if value != usual[name])
    return f"{tiles} x {block_q}" + "".join(unusual)


def kernel(shape: Map, tiling: "Tiling") -> Attend:
    """The kernel for such a map, as a function of its arrays."""
    from window_attention_kernel import fused_window_attention

    return functools.partial(fused_window_attention, **shape.options, tiling=tiling)


def draw(shape: Map, dtype: Any, seed: int = 0) -> Arrays:
    """Normal random numbers."""
    channels, tokens = 3 * shape.heads * shape.head_width, shape.window_size**2
    shapes = (
        (shape.batch, shape.height, shape.width, channels),
        (channels,),
        (shape.heads, tokens, tokens),
    )
    keys = jax.random.split(jax.random.key(seed), 3)
    qkv, padding, bias = (
        jax.random.normal(key, x, dtype) for key, x in zip(keys, shapes, strict=True)
    )
    return qkv, padding, bias


def reference(shape: Map, arrays: Arrays) -> jax.Array:
    """The plain form's result, in float32."""
    plain = jax.jit(functools.partial(window_attention, **shape.options))
    with jax.default_matmul_precision("highest"):
        qkv, padding, bias = (x.astype(jnp.float32) for x in arrays)
        return plain(qkv, padding, bias)


def relative_error(got: jax.Array, want: jax.Array) -> float:
    """The norm of the difference, relative to that of `want`."""
    difference = got.astype(jnp.float32) - want
    return float(jnp.linalg.norm(difference.ravel()) / jnp.linalg.norm(want.ravel()))


def check(name: str, got: jax.Array, want: jax.Array) -> float:
    """The relative error; raises where it is more than rounding explains, or not a number."""
    error = relative_error(got, want)
    if got.shape != want.shape or not error < float(jnp.finfo(got.dtype).eps):
        raise SystemExit(f"{name}: wrong by {error:.1e}, relative, in {got.dtype.name}")
    return error


def best_times(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The least milliseconds of several runs of each, which take turns; the first isn't timed."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: min(taken[1:]) for name, taken in times.items()}


def check_small_maps() -> list[dict[str, Any]]:
    """The kernel's relative error for each small map and dtype, with the default tiling."""
    rows = []
    for shape, dtype in itertools.product(SMALL, CHECKED):
        arrays = draw(shape, dtype)
        got = jax.jit(kernel(shape, tilings(shape.window_size)[0]))(*arrays)
        error = check(f"the kernel for {shape}", got, reference(shape, arrays))
        rows.append({"map": shape._asdict(), "dtype": got.dtype.name, "error": error})
    return rows


def measure(shape: Map, repeats: int) -> dict[str, float | str]:
    """Milliseconds of the plain form and of the kernel by tiling, or why a tiling failed."""
    inputs = [draw(shape, DTYPE, seed) for seed in range(CALLS)]
    want = reference(shape, inputs[0])
    attends: dict[str, Attend] = {describe(x): kernel(shape, x) for x in tilings(shape.window_size)}
    row: dict[str, float | str] = {}
    for name, attend in {
        "plain form": functools.partial(window_attention, **shape.options),
        **attends,
    }.items():
        run = jax.jit(lambda inputs, attend=attend: [attend(*arrays) for arrays in inputs])
        try:
            first, *_ = run(inputs)
            jax.block_until_ready(first)
        except Exception as error:  # a tiling that this GPU has no room for, of whatever kind
            if name not in attends:
                raise
            row[name] = f"failed: {error}"[:200]
            continue
        check(f"{name} for {shape}", first, want)
        [taken] = best_times({name: functools.partial(run, inputs)}, repeats).values()
        row[name] = taken / CALLS
    return row


def fastest(shape: Map, row: Mapping[str, float | str]) -> "Tiling":
    """The tiling of the least time."""
    timed = [x for x in tilings(shape.window_size) if isinstance(row[describe(x)], float)]
    if not timed:
        raise SystemExit(f"no tiling could be compiled for {shape}: {row}")
    return min(timed, key=lambda x: row[describe(x)])


def draw_model(config: Mask2FormerConfig, dtype: Any) -> Mask2Former:
    """A model of random weights, none of them zero, that are the same for every dtype."""
    rng, arrays = np.random.default_rng(0), {}
    for name, shape in parameter_shapes(config).items():
        x = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            x /= math.sqrt(math.prod(shape[:-1]))
        else:
            x = name.endswith("scale") + 0.1 * x
        arrays[name] = jnp.asarray(x, DTYPE).astype(stored_dtype(name, jnp.dtype(dtype)))
    return fill(abstract_model(config, dtype), arrays)


def chosen_kernel(best: Mapping[Map, "Tiling"]) -> Attend:
    """Stands in for `window_attention`, with the tiling that is best for the map."""

    def attend(
        qkv: jax.Array, padding: jax.Array, bias: jax.Array, *, window_size: int, shifted: bool
    ) -> jax.Array:
        batch, height, width, channels = qkv.shape
        heads = len(bias)
        shape = Map(batch, height, width, heads, channels // (3 * heads), window_size, shifted)
        return kernel(shape, best[shape])(qkv, padding, bias)

    return attend


def compile_with(attend: Attend, part: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call of the part, compiled with this window attention in it."""
    with mock.patch.object(swin, "window_attention", attend):
        compiled = jax.jit(lambda *x: part(*x)).lower(*arguments).compile()
    return functools.partial(compiled, *arguments)


def run_backbone(model: Mask2Former, images: jax.Array) -> tuple[jax.Array, ...]:
    """The features of the four stages."""
    return model.backbone(images.astype(model.dtype))


def check_features(
    features: Mapping[str, Sequence[jax.Array]], want: Sequence[jax.Array]
) -> dict[str, list[float]]:
    """The relative errors of the backbone's four outputs, with either form of attention.

    Raises where those with the kernel are half as large again as those with the plain form.
    """
    errors = {form: list(map(relative_error, x, want)) for form, x in features.items()}
    for plain, ours in zip(errors["plain form"], errors["kernel"], strict=True):
        if not ours < 1.5 * plain:
            raise SystemExit(f"the backbone with the kernel is wrong: relative errors {errors}")
    return errors


def measure_network(
    config: Mask2FormerConfig, size: tuple[int, int], best: Mapping[Map, "Tiling"], repeats: int
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """Milliseconds of the network with either form of attention, and errors of its features."""
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, *size, 3), np.float32))
    with jax.default_matmul_precision("highest"):
        model = draw_model(config, jnp.float32)
        want = compile_with(window_attention, run_backbone, model, images)()
    model = draw_model(config, DTYPE)
    forms = {"plain form": window_attention, "kernel": chosen_kernel(best)}
    parts = {
        "backbone": run_backbone,
        "whole forward": functools.partial(network, all_layers=False),
    }
    runs = {
        name: {form: compile_with(attend, part, model, images) for form, attend in forms.items()}
        for name, part in parts.items()
    }
    errors = check_features({form: run() for form, run in runs["backbone"].items()}, want)
    rows = []
    for name, calls in runs.items():
        times = best_times(calls, repeats)
        ratio = times["kernel"] / times["plain form"]
        rows.append({"part": name, **times, "kernel / plain": ratio})
    return rows, errors


def list_tilings(rows: Mapping[Map, Mapping[str, float | str]]) -> Grid:
    """A line for each tiling, a column for each map."""
    columns = [f"{x.height} x {x.width}" + ", shifted" * x.shifted for x in rows]
    lines = []
    for name in next(iter(rows.values())):
        cells = [row[name] for row in rows.values()]
        lines.append([name, *("failed" if isinstance(x, str) else text_of(x) for x in cells)])
    return Grid("window attention, ms", ["tiles x queries", *columns], lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog=f"It needs {NEEDS}"
    )
    parser.add_argument("--preset", choices=PRESETS, default="swin-large-cityscapes-instance")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(1024, 2048), metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many is shown")
    add_report_options(parser)
    options = parser.parse_args(arguments)
    if options.repeats < 1 or min(options.size) < 32:
        parser.error("--repeats: 1 or more; --size: 32 or more")
    return options


def check_machine():
    """Refuses to begin where the kernel can't run."""
    if jax.default_backend() != "gpu":
        raise SystemExit(f"JAX has no GPU here, only {jax.devices()[0]}. This needs {NEEDS}")
    if importlib.util.find_spec("jax_triton") is None:
        raise SystemExit(f"jax_triton isn't installed. This needs {NEEDS}")


def main(arguments: Sequence[str] | None = None):
    """Checks and times everything, and prints two tables."""
    options = parse(arguments)
    check_machine()
    config, size = preset(options.preset).config, tuple(options.size)
    say("small maps")
    checks = check_small_maps()
    rows = {}
    for shape in maps_of_stages(config.backbone, size):
        say(str(shape))
        rows[shape] = measure(shape, options.repeats)
    say("the network")
    best = {shape: fastest(shape, row) for shape, row in rows.items()}
    parts, errors = measure_network(config, size, best, options.repeats)
    versions = {name: version(name) for name in ("jax", "jax-triton", "triton")}
    device = {"GPU": jax.devices()[0].device_kind}
    report = {
        "machine": device,
        "versions": versions,
        "checks": checks,
        "maps": [
            {"map": shape._asdict(), "best": describe(best[shape]), "ms": row}
            for shape, row in rows.items()
        ],
        "network": parts,
        "errors of the backbone's features": errors,
    }
    grids = [list_tilings(rows), Grid.of("the network, ms", parts)]
    publish(options, grids, {"machine": device, "versions": versions}, report)


if __name__ == "__main__":
    main()
