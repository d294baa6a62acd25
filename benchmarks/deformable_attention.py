"""Times the deformable attention alone beside its peers: same inputs, same machine, one run.

    python benchmarks/deformable_attention.py --size 1024 2048 --dtype bfloat16

The queries are the pixels of the maps at strides 32, 16 and 8, and look at random places around
themselves, as in the pixel decoder. In float32, results and gradients of all must agree; then calls
take turns. README.md beside this file says what each row means.
"""

import argparse
import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from arguments import add_machine, add_size, count
from machine import (
    check_installed,
    choose_device,
    describe_run,
    device_kind,
    limit_threads,
    share_device,
)
from reporting import OURS, Grid, Report, Row, add_record_options, publish_report, read_record, say
from turns import Call, take_turns

STRIDES = (32, 16, 8)
HEAD_WIDTH = 32
SPREAD = 2.0  # pixels of a level between a query and where it looks, as a standard deviation
CLEAR = 0.05  # pixels between such a place and the lines on which the derivative jumps
TOLERANCE = 1e-4  # in float32, relative to the largest number
RESULTS: Sequence[str] = (
    "result",
    "gradient of values",
    "gradient of locations",
    "gradient of weights",
)
KERNEL = "torch-ms-deform-attn"  # the authors' CUDA kernel as a package

Operator = Callable[..., Any]  # of values, locations and weights


class Settings(NamedTuple):
    """What is measured, and how."""

    size: tuple[int, int]
    heads: int
    points: int
    dtype: str
    device: str
    repeats: int
    threads: int
    peers: tuple[str, ...]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Of the levels."""
        height, width = self.size
        return [(height // stride, width // stride) for stride in STRIDES]


class Inputs(NamedTuple):
    """What an operator is given, and the gradient of what it returns: arrays of some framework."""

    values: Any
    locations: Any
    weights: Any
    gradient: Any


def draw(settings: Settings) -> Inputs:
    """Random inputs of one image, in numpy and float32."""
    from m2f_jax.modeling.pixel_decoders.deformable import reference_points

    rng, heads, levels = np.random.default_rng(0), settings.heads, len(STRIDES)
    places = np.asarray(reference_points(settings.sizes))
    queries = len(places)
    shape = (1, queries, heads, levels, settings.points)
    pixels = np.array([(width, height) for height, width in settings.sizes])[:, None]
    there = places[:, None, None, None] * pixels - 0.5 + SPREAD * rng.normal(size=(*shape, 2))
    whole = np.floor(there)
    locations = (whole + np.clip(there - whole, CLEAR, 1 - CLEAR) + 0.5) / pixels
    weights = np.exp(rng.normal(size=shape))
    arrays = (
        rng.normal(size=(1, queries, heads, HEAD_WIDTH)),
        locations,
        weights / weights.sum((-2, -1), keepdims=True),
        rng.normal(size=(1, queries, heads * HEAD_WIDTH)),
    )
    return Inputs(*(x.astype(np.float32) for x in arrays))


# The sides. Each has `forward` and `both`, a call that returns the result and one that returns also
# the gradients, in a dtype; `fetch`, which makes numpy arrays of these; and `memory`.


class Ours:
    """This project; locations stay in float32, as in its pixel decoder."""

    def __init__(self, settings: Settings, inputs: Inputs):
        import jax

        from m2f_jax.ops.ms_deform_attn import ms_deform_attn

        def operator(values: Any, locations: Any, weights: Any) -> Any:
            return ms_deform_attn(values, settings.sizes, locations, weights)

        def with_gradients(values: Any, locations: Any, weights: Any, gradient: Any) -> Any:
            result, derivative = jax.vjp(operator, values, locations, weights)
            return result, *derivative(gradient)

        self.inputs = inputs
        self.device = jax.devices(settings.device)[0]
        self.operator, self.with_gradients = jax.jit(operator), jax.jit(with_gradients)

    def arrays(self, dtype: str) -> Inputs:
        """The inputs on the device."""
        import jax
        import jax.numpy as jnp

        values, locations, weights, gradient = jax.device_put(self.inputs, self.device)
        low = (x.astype(jnp.dtype(dtype)) for x in (values, weights, gradient))
        values, weights, gradient = low
        return Inputs(values, locations, weights, gradient)

    def forward(self, dtype: str) -> Call:
        return self.waited(self.operator, *self.arrays(dtype)[:3])

    def both(self, dtype: str) -> Call:
        return self.waited(self.with_gradients, *self.arrays(dtype))

    @staticmethod
    def waited(function: Callable[..., Any], *arrays: Any) -> Call:
        """A call that waits for the device."""
        import jax

        return lambda: jax.block_until_ready(function(*arrays))

    @staticmethod
    def fetch(result: Sequence[Any]) -> list[np.ndarray]:
        return [np.asarray(x).astype(np.float32) for x in result]

    def memory(self, dtype: str) -> dict[str, int]:
        """Bytes beside the inputs, as the compiler plans them: results and temporaries."""
        arrays = self.arrays(dtype)
        lowered = {
            "forward": self.operator.lower(*arrays[:3]),
            "forward and gradient": self.with_gradients.lower(*arrays),
        }
        planned: dict[str, Any] = {
            name: program.compile().memory_analysis() for name, program in lowered.items()
        }
        return {
            name: memory.temp_size_in_bytes + memory.output_size_in_bytes
            for name, memory in planned.items()
        }


class OnTorch:
    """An operator of PyTorch; all of it in one dtype."""

    def __init__(self, operator: Operator, settings: Settings, inputs: Inputs):
        self.operator, self.inputs, self.device = operator, inputs, settings.device

    def arrays(self, dtype: str) -> Inputs:
        """The inputs on the device."""
        import torch

        return Inputs(
            *(torch.from_numpy(x).to(self.device, getattr(torch, dtype)) for x in self.inputs)
        )

    def forward(self, dtype: str) -> Call:
        import torch

        arrays = self.arrays(dtype)[:3]

        def call() -> Any:
            with torch.inference_mode():
                result = self.operator(*arrays)
            self.wait()
            return result

        return call

    def both(self, dtype: str) -> Call:
        import torch

        *arrays, gradient = self.arrays(dtype)
        for array in arrays:
            array.requires_grad_()

        def call() -> Any:
            result = self.operator(*arrays)
            gradients = torch.autograd.grad(result, arrays, gradient)
            self.wait()
            return result, *gradients

        return call

    def wait(self):
        """Until the device is done."""
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()

    @staticmethod
    def fetch(result: Sequence[Any]) -> list[np.ndarray]:
        return [x.detach().float().cpu().numpy() for x in result]

    def memory(self, dtype: str) -> dict[str, int]:
        """Bytes beside the inputs, as counted during a call; on a CPU nothing counts them."""
        import torch

        if self.device == "cpu":
            return {}
        found = {}
        for name, make in (("forward", self.forward), ("forward and gradient", self.both)):
            call = make(dtype)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            found[name] = torch.cuda.max_memory_allocated() - before
        return found


def transformers_operator(settings: Settings) -> Operator:
    """Of transformers, in terms of grid_sample."""
    from transformers.models.mask2former.modeling_mask2former import (
        multi_scale_deformable_attention,
    )

    def operator(values: Any, locations: Any, weights: Any) -> Any:
        return multi_scale_deformable_attention(values, settings.sizes, locations, weights)

    return operator


def kernel_operator(settings: Settings) -> Operator:
    """The authors' CUDA kernel."""
    import torch

    kernel = importlib.import_module("torch_ms_deform_attn").ms_deform_attn
    sizes = torch.tensor(settings.sizes, device=settings.device)
    starts = torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]])

    def operator(values: Any, locations: Any, weights: Any) -> Any:
        return kernel(values, sizes, starts, locations, weights)

    return operator


PEERS = {"transformers": transformers_operator, KERNEL: kernel_operator}


# How it is measured


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    return float(abs(one - other).max() / abs(other).max())


def compare(sides: Mapping[str, Any], dtype: str) -> dict[str, dict[str, float]]:
    """How far results and gradients are apart: in float32, and each side's from those in `dtype`.

    Raises:
        SystemExit: these aren't the same function.
    """
    exact = {name: side.fetch(side.both("float32")()) for name, side in sides.items()}
    found = {
        f"from {peer}": dict(
            zip(RESULTS, map(relative_difference, exact[OURS], theirs), strict=True)
        )
        for peer, theirs in exact.items()
        if peer != OURS
    }
    for peer, differences in found.items():
        for name, difference in differences.items():
            if not difference <= TOLERANCE:
                raise SystemExit(f"the {name} differs by {difference:.1e} {peer}")
    if dtype != "float32":
        for name, side in sides.items():
            rounded = map(relative_difference, side.fetch(side.both(dtype)()), exact[name])
            found[f"{name}, {dtype} from float32"] = dict(zip(RESULTS, rounded, strict=True))
    return found


def table_of(agreement: Mapping[str, Mapping[str, float]]) -> Grid:
    """The differences, a line for each array."""
    lines = [[name, *(f"{x[name]:.1e}" for x in agreement.values())] for name in RESULTS]
    return Grid("largest differences, relative to the largest number", ["", *agreement], lines)


def measure(settings: Settings) -> tuple[dict[str, dict[str, float]], list[Row]]:
    """How far the operators are apart, and the table."""
    inputs = draw(settings)
    make = {OURS: Ours} | {
        name: functools.partial(OnTorch, PEERS[name](settings)) for name in settings.peers
    }
    sides = {name: side(settings, inputs) for name, side in make.items()}
    say("results and gradients")
    agreement = compare(sides, settings.dtype)
    dtype, rows = settings.dtype, []
    calls = {
        "forward": {name: side.forward(dtype) for name, side in sides.items()},
        "forward and gradient": {name: side.both(dtype) for name, side in sides.items()},
    }
    for name, turns in calls.items():
        say(name)
        rows.append(Row.timed(name, take_turns(turns, settings.repeats)))
    memory = {name: side.memory(dtype) for name, side in sides.items()}
    for name in calls:
        mib = {side: found[name] / 2**20 for side, found in memory.items() if name in found}
        rows.append(Row.of(f"{name}, memory beside inputs", "MiB", mib))
    return agreement, rows


# From the command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_size(parser, (256, 512))
    parser.add_argument("--heads", type=count, default=8)
    parser.add_argument("--points", type=count, default=4, help="of a query, head and level")
    add_machine(parser)
    parser.add_argument("--repeats", type=count, default=10, help="medians of so many")
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=PEERS,
        default=["transformers"],
        help=f"default: transformers; {KERNEL} needs CUDA",
    )
    add_record_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None):
    """Checks and times the operators and prints one table."""
    options = parse(arguments)
    check_installed(options.peers)
    share_device(options.device)
    settings = Settings(
        size=tuple(options.size),
        heads=options.heads,
        points=options.points,
        dtype=options.dtype,
        device=choose_device(options.device),
        repeats=options.repeats,
        threads=limit_threads(options.threads),
        peers=tuple(options.peers),
    )
    if KERNEL in settings.peers and settings.device != "cuda":
        raise SystemExit(f"--peers: {KERNEL} needs a CUDA device")
    import torch

    torch.set_num_threads(settings.threads)
    height, width = settings.size
    described = {
        "size": f"{height} x {width}",
        "heads": settings.heads,
        "points": settings.points,
        "dtype": settings.dtype,
        "device": device_kind(settings.device),
        "threads": settings.threads,
        "peers": ", ".join(settings.peers),
    }
    record = read_record(options, "deformable_attention", described)
    noted = describe_run({"median of": settings.repeats}, peers=settings.peers)
    agreement, rows = measure(settings)
    queries = sum(h * w for h, w in settings.sizes)
    report = Report(
        benchmark="deformable_attention",
        title=f"deformable attention, {queries:,} queries",
        settings=described,
        notes=noted,
        rows=rows,
        others=[table_of(agreement)],
        details={"agreement": agreement},
    )
    publish_report(options, report, record)


if __name__ == "__main__":
    main()
