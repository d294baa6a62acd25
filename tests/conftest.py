"""What several tests share: the golden data, its models, and which tests need torch."""

import dataclasses
import functools
import gc
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax._src import compiler  # its options for all programs have no public name

import tests.checked_types  # noqa: F401 - before all that is to be checked

# isort: split
import m2f_jax
from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import CITYSCAPES, Label, numbered
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.model import Model
from m2f_jax.modeling.parameters import abstract_model, fill, parameter_shapes
from m2f_jax.modeling.video_mask2former import VideoMask2Former
from m2f_jax.structures import FeaturePyramid, ImageSize, Predictions
from tests.toys import registered

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def pytest_collection_modifyitems(items):
    slowest = ROOT / "tests" / "training"  # first, so that several workers end together
    items.sort(key=lambda item: not item.path.is_relative_to(slowest))
    skip = pytest.mark.skip(reason="needs torch and transformers (pip install m2f-jax[torch])")
    for item in items:
        if not TORCH and item.get_closest_marker("torch"):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory):
    """What one test compiled serves the others of this run, also those in other processes."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


XLA_FLAGS = os.environ.get("XLA_FLAGS", "")


@functools.cache
def quick_options() -> dict[str, Any]:
    """XLA's older way to write fused loops, which compiles a training step in 10 s, not in 18."""
    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x).lower(0).compile(options)
    except jax.errors.JaxRuntimeError:  # this XLA no longer has it
        return {}
    return options


@pytest.fixture(scope="session", autouse=True)
def _options_of_all_programs():
    """Programs that aren't optimized are compiled with `quick_options`, too."""
    options, compile_options = quick_options(), compiler.get_compile_options

    def get_compile_options(*arguments, env_options_overrides=None, **others):
        if jax.config.read("jax_disable_most_optimizations"):
            env_options_overrides = options | (env_options_overrides or {})
        return compile_options(*arguments, env_options_overrides=env_options_overrides, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", get_compile_options)
        yield


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly(request, _options_of_all_programs):
    """Most of this suite's time is XLA's, half of it for programs that run once; as in JAX's own
    tests, they are optimized only in modules with the mark `optimized`: those that compare with
    references, or measure memory.
    """
    quickly = request.node.get_closest_marker("optimized") is None
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quickly))
    os.environ["XLA_FLAGS"] = with_flags(XLA_FLAGS, quick_options() if quickly else {})
    jax.config.update("jax_disable_most_optimizations", quickly)


@pytest.fixture(scope="module", autouse=True)
def _old_objects_are_let_be():
    """Millions of objects outlive their module, in JAX's caches: a collection takes seconds, unless
    it looks at the new ones alone.
    """
    gc.collect()
    gc.freeze()


def with_flags(flags: str, options: dict[str, Any]) -> str:
    """The variable XLA_FLAGS for child processes, with more options."""
    return " ".join([flags, *(f"--{name}={value}".lower() for name, value in options.items())])


def with_devices(count: int) -> str:
    """The variable XLA_FLAGS for child processes that take the CPU for so many devices."""
    count_flag = {"xla_force_host_platform_device_count": count}
    return with_flags(os.environ["XLA_FLAGS"], count_flag)


def close(ours: Any, theirs: Any, tolerance: float):
    """Asserts that two arrays have one shape and dtype, and differ by `tolerance` at most."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, strict=True)


def compile_and_call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, compiled in half the time; in full precision unless it says so."""
    with jax.default_matmul_precision("highest"):
        lowered = jax.jit(function).lower(*arguments)
    options = {"xla_backend_optimization_level": 0, **quick_options()}
    return lowered.compile(options)(*arguments)


@dataclasses.dataclass(frozen=True)
class Stages:
    """A network's input and what each stage of the authors' makes of it; channels last."""

    model: Model
    pixel_values: np.ndarray
    features: tuple[np.ndarray, ...]  # res2 to res5
    pyramid: FeaturePyramid
    predictions: tuple[Predictions, ...]  # of the learned queries, then of each layer


@dataclasses.dataclass(frozen=True)
class GoldenFolder:
    """One folder of tests/golden; the README there says what the arrays are."""

    name: str

    @property
    def folder(self) -> Path:
        return GOLDEN / self.name

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        return json.loads((self.folder / "meta.json").read_text())

    @functools.cached_property
    def network(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "network.npz"))

    @functools.cached_property
    def post(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "post.npz"))


@dataclasses.dataclass(frozen=True)
class Golden(GoldenFolder):
    """A model of images."""

    @functools.cached_property
    def model(self) -> Model:
        return m2f_jax.load(self.folder / "model_final.pkl").model

    @property
    def images(self) -> list[np.ndarray]:
        count = len(self.settings["image_sizes"])
        return [self.network[f"image_{i}"].transpose(1, 2, 0) for i in range(count)]

    @property
    def sizes(self) -> tuple[ImageSize, ...]:
        """How to get from the padded batch to the golden outputs, whose sizes are made up."""
        padded = tuple(self.settings["padded_size"])
        pairs = zip(self.settings["image_sizes"], self.settings["output_sizes"], strict=True)
        return tuple(ImageSize(padded, tuple(resized), tuple(output)) for resized, output in pairs)

    @property
    def processor(self) -> ImageProcessor:
        """Native size and the thresholds behind post.npz."""
        post = self.settings["post"]
        return ImageProcessor(
            object_mask_threshold=post["object_mask_threshold"],
            overlap_threshold=post["overlap_threshold"],
        )

    @functools.cached_property
    def our_predictions(self) -> tuple[Predictions, ...]:
        """From the uint8 images, by our processor and all layers of our model."""
        batch = self.processor(self.images)
        model = functools.partial(self.model, all_layers=True)
        return compile_and_call(model, batch.pixel_values)

    def stages(self, prefix: str = "") -> Stages:
        """The arrays of network.npz: for the padded batch or, with "raw_", for the plain image."""

        def maps(name: str) -> np.ndarray:
            return np.moveaxis(self.network[prefix + name], 1, -1)

        return Stages(
            model=self.model,
            pixel_values=maps("pixel_values"),
            features=tuple(maps(f"res{i}") for i in (2, 3, 4, 5)),
            pyramid=FeaturePyramid(
                tuple(maps(f"pixel_decoder_{i}") for i in range(3)), maps("mask_features")
            ),
            predictions=tuple(
                map(
                    Predictions,
                    self.network[prefix + "class_logits"],
                    self.network[prefix + "mask_logits"],
                )
            ),
        )

    def query_masks(self, image: int) -> np.ndarray:
        """Every query's mask at the output size."""
        height, width = self.settings["output_sizes"][image]
        packed = self.post[f"query_masks_{image}"]
        return np.unpackbits(packed, axis=1, count=height * width).reshape(-1, height, width) == 1


class GoldenVideo(GoldenFolder):
    """One clip of three frames; the arrays of network.npz have the frames first."""

    @functools.cached_property
    def model(self) -> VideoMask2Former:
        return VideoMask2Former.from_pretrained(self.folder / "model_final.pkl")

    @property
    def frames(self) -> list[np.ndarray]:
        return list(np.moveaxis(self.network["frames"], 1, -1))

    def clip(self, name: str) -> np.ndarray:
        return np.moveaxis(self.network[name], 1, -1)[None]

    @property
    def pyramid(self) -> FeaturePyramid:
        features = tuple(self.clip(f"pixel_decoder_{i}") for i in range(3))
        return FeaturePyramid(features, self.clip("mask_features"))

    @property
    def predictions(self) -> list[Predictions]:
        names = ("class_logits", "mask_logits")
        return list(map(Predictions, *(self.network[name] for name in names)))

    @property
    def size(self) -> ImageSize:
        settings = self.settings
        return ImageSize(
            *(tuple(settings[name]) for name in ("padded_size", "frame_size", "output_size"))
        )

    @functools.cached_property
    def our_predictions(self) -> list[Predictions]:
        batch = ImageProcessor().video_batch(self.frames)
        model = functools.partial(self.model, all_layers=True)
        return compile_and_call(model, batch.pixel_values)


load_golden = functools.cache(Golden)  # so models are loaded once, and compiled once per shape
NAMES = ("tiny_w4_aligned", "tiny_w7_odd", "tiny_batch2", "r50_tiny")
MASKFORMERS = ("maskformer_swin", "maskformer_r50_fpn", "maskformer_r50")


@pytest.fixture(params=NAMES)
def golden(request) -> Golden:
    return load_golden(request.param)


@pytest.fixture(params=[*NAMES, "tiny_w7_odd raw_", "r50_tiny raw_"])
def stages(request) -> Stages:
    name, _, prefix = request.param.partition(" ")
    return load_golden(name).stages(prefix)


@pytest.fixture(scope="session")
def video() -> GoldenVideo:
    """The golden model of clips."""
    return GoldenVideo("video_tiny")


@pytest.fixture
def tiny() -> Golden:
    """One of the golden models, where any would do."""
    return load_golden("tiny_w4_aligned")


MICRO = Mask2FormerConfig(
    labels=numbered(2),
    task="instance",
    backbone=SwinConfig(
        embed_dim=4, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=3, mlp_ratio=1.0
    ),
    pixel_decoder=PixelDecoderConfig(
        dim=32, mask_dim=8, num_layers=1, num_heads=2, num_points=1, ffn_dim=8
    ),
    decoder=TransformerDecoderConfig(dim=32, num_layers=1, num_heads=2, ffn_dim=8, num_queries=5),
)


@pytest.fixture(scope="session")
def micro() -> Mask2Former:
    """A model of random weights that compiles as fast as one can."""
    rng = np.random.default_rng(0)
    arrays = {
        name: jnp.asarray(name.endswith("scale") + rng.normal(scale=0.3, size=shape), jnp.float32)
        for name, shape in parameter_shapes(MICRO).items()
    }
    return fill(abstract_model(MICRO), arrays)


@pytest.fixture(scope="session")
def panoptic_model(tmp_path_factory) -> str:
    """The folder of a tiny random model of Cityscapes' classes, whose weakest segments count."""
    folder = tmp_path_factory.mktemp("panoptic_model")
    tiny = load_golden("tiny_w7_odd").model.config
    config = dataclasses.replace(
        tiny,
        labels=CITYSCAPES,
        task="panoptic",
        backbone=dataclasses.replace(tiny.backbone, depths=(1, 1, 1, 1)),
        pixel_decoder=dataclasses.replace(tiny.pixel_decoder, num_layers=1),
        decoder=dataclasses.replace(tiny.decoder, num_layers=1),
    )
    Mask2Former(config, rngs=nnx.Rngs(0)).save_pretrained(folder)
    processor = ImageProcessor(
        thing_classes=config.thing_classes, object_mask_threshold=0.0, overlap_threshold=0.2
    )
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def toys() -> Iterator[dict[str, Any]]:
    """A config of each kind of part in tests/toys.py."""
    with registered() as configs:
        yield configs


@pytest.fixture(scope="session")
def equations() -> Callable[[Any], Iterator[Any]]:
    """All equations of a jaxpr, with those of the functions, loops and branches in it."""

    def walk(jaxpr):
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        for equation in jaxpr.eqns:
            yield equation
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
                if is_jaxpr(value):
                    yield from walk(value)

    def is_jaxpr(value):
        return hasattr(value, "eqns") or hasattr(value, "jaxpr")

    return walk


@pytest.fixture(scope="session")
def run() -> Callable[..., Any]:
    return compile_and_call


@pytest.fixture
def window_attention_kernel(monkeypatch) -> ModuleType:
    """The kernel's module, past pytest's import hook: Triton reads the source of its functions."""
    name = "m2f_jax.ops.window_attention_kernel"
    path = ROOT / "m2f_jax" / "ops" / "window_attention_kernel.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


VIDEO_LABELS = (Label(id=7, name="cat", is_thing=True), Label(id=3, name="dog", is_thing=True))


@pytest.fixture(scope="session")
def video_model(tmp_path_factory) -> Path:
    """The folder of a tiny random model of videos."""
    folder = tmp_path_factory.mktemp("video_model")
    parts = {name: getattr(MICRO, name) for name in ("backbone", "pixel_decoder", "decoder")}
    config = VideoMask2FormerConfig(labels=VIDEO_LABELS, **parts)
    VideoMask2Former(config, rngs=nnx.Rngs(0)).save_pretrained(folder)
    return folder
