"""Forms of the backbone's attention in windows that gpu.py compares: each computes the same.

`forms` has those for the whole network: the plain form, cuDNN's fused attention, and the package's
kernel with its usual tiling. For one map `forms_of` has every tiling of the kernel besides. `check`
refuses a form that is wrong by more than rounding.
"""

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from unittest import mock

import einops
import jax
import jax.numpy as jnp
import numpy as np

from m2f_jax.config import SwinConfig
from m2f_jax.modeling.backbones import swin
from m2f_jax.ops.window_attention import shifted_regions, window_attention

if TYPE_CHECKING:
    from m2f_jax.ops.window_attention_kernel import Tiling

DTYPE = jnp.bfloat16  # of what is timed
CALLS = 8  # that are timed together, so that their start takes no part

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


def maps_of_stages(cfg: SwinConfig, size: tuple[int, int]) -> list[Map]:
    """Returns the map of each stage for one image of a size, not shifted and shifted."""
    height, width = (-(-side // swin.PATCH_SIZE) for side in size)
    maps = []
    for dim, heads in zip(cfg.channels, cfg.num_heads, strict=True):
        shape = (1, height, width, heads, dim // heads, cfg.window_size)
        maps += [Map(*shape, shifted) for shifted in (False, True)]
        height, width = -(-height // 2), -(-width // 2)
    return maps


def tilings(window_size: int) -> list["Tiling"]:
    """Returns the tilings that are compared; the first is the default."""
    from m2f_jax.ops.window_attention_kernel import Tiling

    def whole_window(block_q: int, **options: Any) -> Tiling:
        return Tiling(block_q, -(-(window_size**2) // block_q), **options)

    found = [
        whole_window(64),
        whole_window(64, unroll=True),
        whole_window(64, num_warps=8),
        whole_window(64, windows=2),
        Tiling(64, 1),
        Tiling(64, 1, windows=4, num_stages=2),
        whole_window(32, num_warps=2),
        whole_window(16, num_warps=1),
    ]
    return list(dict.fromkeys(found))


def describe(tiling: "Tiling") -> str:
    """Returns a tiling's name: tiles and queries of each, and what isn't as usual."""
    usual = {field.name: field.default for field in dataclasses.fields(tiling)}
    values = dataclasses.asdict(tiling)
    tiles, block_q = values.pop("tiles"), values.pop("block_q")
    unusual = (f", {name} {value}" for name, value in values.items() if value != usual[name])
    return f"{tiles} x {block_q}" + "".join(unusual)


def draw(shape: Map, dtype: Any, seed: int = 0) -> Arrays:
    """Returns normal random numbers."""
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
    """Returns the plain form's result, in float32."""
    plain = jax.jit(functools.partial(window_attention, **shape.options))
    with jax.default_matmul_precision("highest"):
        qkv, padding, bias = (x.astype(jnp.float32) for x in arrays)
        return plain(qkv, padding, bias)


def relative_error(got: jax.Array, want: jax.Array) -> float:
    """Returns the norm of the difference, relative to that of `want`."""
    difference = got.astype(jnp.float32) - want
    return float(jnp.linalg.norm(difference.ravel()) / jnp.linalg.norm(want.ravel()))


def check(name: str, got: jax.Array, want: jax.Array) -> float:
    """Returns the relative error; raises ValueError where rounding doesn't explain it."""
    error = relative_error(got, want)
    if got.shape != want.shape or not error < float(jnp.finfo(got.dtype).eps):
        raise ValueError(f"{name}: wrong by {error:.1e}, relative, in {got.dtype.name}")
    return error


# Forms


def cudnn_window_attention(
    qkv: jax.Array,
    padding: jax.Array,
    bias: jax.Array,
    *,
    window_size: int,
    shifted: bool,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Computes `window_attention` by `jax.nn.dot_product_attention`, with biases in qkv's dtype.

    After a shift, windows in the last row and the last column have biases of their own, so there
    are four calls, each with one bias for all of its windows.
    """
    _, height, width, channels = qkv.shape
    heads, dim = len(bias), channels // (3 * len(bias))
    down, across = -height % window_size, -width % window_size
    shift = window_size // 2
    if down or across:
        inside = np.pad(np.ones((height, width, 1), bool), ((0, down), (0, across), (0, 0)))
        qkv = jnp.pad(qkv, ((0, 0), (0, down), (0, across), (0, 0)))
        qkv = jnp.where(inside, qkv, padding.astype(qkv.dtype))
    if shifted:
        qkv = jnp.roll(qkv, (-shift, -shift), axis=(1, 2))
    queries, keys, values = einops.rearrange(
        qkv,
        "b (h y) (w x) (three heads d) -> three b h w (y x) heads d",
        three=3,
        heads=heads,
        y=window_size,
        x=window_size,
    )

    def attend(rows: slice, columns: slice, together: np.ndarray | None) -> jax.Array:
        place = (slice(None), rows, columns)
        shape = queries[place].shape
        if 0 in shape:
            return queries[place]
        here = bias if together is None else jnp.where(together, bias, bias - 100)
        q, k, v = (x[place].reshape(-1, *shape[-3:]) for x in (queries, keys, values))
        result = jax.nn.dot_product_attention(
            q,
            k,
            v,
            bias=here[None].astype(qkv.dtype),
            scale=dim**-0.5,
            implementation=implementation,
        )
        return result.reshape(shape)

    every, most, last = slice(None), slice(-1), slice(-1, None)
    if shifted:
        regions = shifted_regions((2 * window_size, 2 * window_size), window_size)
        same = regions[:, :, None] == regions[:, None, :]  # of the four places of a window
        x = jnp.concatenate(
            [
                jnp.concatenate(
                    [attend(rows, most, same[2 * i]), attend(rows, last, same[2 * i + 1])], axis=2
                )
                for i, rows in enumerate((most, last))
            ],
            axis=1,
        )
    else:
        x = attend(every, every, None)
    x = einops.rearrange(
        x, "b h w (y x) heads d -> b (h y) (w x) (heads d)", y=window_size, x=window_size
    )
    if shifted:
        x = jnp.roll(x, (shift, shift), axis=(1, 2))
    return x[:, :height, :width]


def kernel(*arrays: jax.Array, **options: Any) -> jax.Array:
    """Computes attention in windows by the package's kernel, with its usual or another tiling."""
    from m2f_jax.ops.window_attention_kernel import fused_window_attention

    return fused_window_attention(*arrays, **options)


def forms(device: str) -> dict[str, Attend]:
    """Returns the forms for the whole network; on a CPU, XLA's stands in for cuDNN's."""
    if device == "cpu":
        on_cpu = functools.partial(cudnn_window_attention, implementation="xla")
        return {"plain": window_attention, "cuDNN": on_cpu}
    return {"plain": window_attention, "cuDNN": cudnn_window_attention, "kernel": kernel}


def forms_of(shape: Map, device: str) -> dict[str, Attend]:
    """Returns the forms for one map, with every tiling of the kernel where it can run."""
    found = forms(device)
    if found.pop("kernel", None) and importlib.util.find_spec("jax_triton"):
        found |= {
            f"kernel {describe(tiling)}": functools.partial(kernel, tiling=tiling)
            for tiling in tilings(shape.window_size)
        }
    return {name: functools.partial(form, **shape.options) for name, form in found.items()}


def by_map(best: Mapping[Map, Attend]) -> Attend:
    """Returns a form that takes the best one for each map."""

    def attend(
        qkv: jax.Array, padding: jax.Array, bias: jax.Array, *, window_size: int, shifted: bool
    ) -> jax.Array:
        batch, height, width, channels = qkv.shape
        heads = len(bias)
        shape = Map(batch, height, width, heads, channels // (3 * heads), window_size, shifted)
        return best[shape](qkv, padding, bias)

    return attend


@contextlib.contextmanager
def patched(form: Attend | None) -> Iterator[None]:
    """Traces the backbone with this form inside; None leaves it as it is."""
    if form is None:
        yield
        return

    def attend(*arrays: jax.Array, fused: bool, **options: Any) -> jax.Array:  # noqa: ARG001
        return form(*arrays, **options)

    with mock.patch.object(swin, "window_attention", attend):
        yield
