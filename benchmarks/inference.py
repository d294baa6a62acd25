"""Times this Mask2Former beside its peers: same weights, same input, same machine, one run.

    python benchmarks/inference.py --preset swin-tiny-coco-instance --size 384 384

The weights are random, made by transformers, saved, and loaded by both. Both must give the same
logits; then calls of all peers take turns, so that a machine that slows down slows down for all.
README.md beside this file says what each row means.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from PIL import Image
from rich.console import Console
from rich.table import Table

from m2f_jax import ImageProcessor, Mask2Former
from m2f_jax.config import Mask2FormerConfig
from m2f_jax.preprocess import ImageSource
from m2f_jax.presets import preset
from m2f_jax.structures import FeaturePyramid, ImageSize, Predictions

OURS = "m2f-jax"
NEEDS = {  # the packages of each peer, and how to get them
    "transformers": (("torch", "transformers"), "pip install 'm2f-jax[torch]'"),
    "zeromodels": (("keras", "zeromodels"), "pip install zeromodels keras"),
}
MULTIPLE = 32  # sides that every peer takes as they are
ENLARGED = 1.25  # the images, compared with the network's input
MOST_FLIPPED = 1e-3  # of all mask pixels, if the peers compute the same function in float32
PAUSE = 0.05  # seconds in which the threads of the last call go to sleep

Call = Callable[[], Any]


class Settings(NamedTuple):
    """What is measured, and how."""

    config: Mask2FormerConfig
    size: tuple[int, int]
    batch: int
    dtype: str
    device: str
    tf32: bool
    compiled: bool
    repeats: int
    threads: int
    peers: tuple[str, ...]

    @property
    def precision(self) -> str:
        """Of float32 matrix products."""
        return "tensorfloat32" if self.tf32 else "highest"


class Inputs(NamedTuple):
    """What the calls are given: images, and what one stage hands to the next."""

    images: list[np.ndarray]
    sizes: tuple[ImageSize, ...]
    pixel_values: np.ndarray
    features: tuple[jax.Array, ...]
    pyramid: FeaturePyramid
    predictions: Predictions


class Row(NamedTuple):
    """One line of the table: what each peer took, and our part of theirs."""

    name: str
    unit: str
    values: dict[str, float]
    ratios: dict[str, float]


# What is measured


class Ours:
    """This project's model, and its calls."""

    def __init__(self, folder: Path, settings: Settings):
        self.settings = settings
        self.device = jax.devices("cuda" if settings.device == "cuda" else "cpu")[0]
        with jax.default_device(self.device):
            self.model = Mask2Former.from_pretrained(folder, settings.dtype)
        jax.block_until_ready(nnx.state(self.model))
        height, width = settings.size
        self.processor = ImageProcessor(
            shortest_edge=min(height, width), longest_edge=max(height, width)
        )

    def network(self, pixel_values: np.ndarray) -> Call:
        """The whole forward pass."""
        placed = jax.device_put(pixel_values, self.device)

        def call() -> Predictions:
            with jax.default_matmul_precision(self.settings.precision):
                return jax.block_until_ready(self.model(placed))

        return call

    def stage(self, name: str, inputs: Any) -> Call:
        """One stage as a compiled function of the parameters and the inputs."""
        graph, state = nnx.split(getattr(self.model, name))
        compiled = jax.jit(lambda state, inputs: nnx.merge(graph, state)(inputs))
        inputs = jax.device_put(inputs, self.device)

        def call() -> Any:
            with jax.default_matmul_precision(self.settings.precision):
                return jax.block_until_ready(compiled(state, inputs))

        return call

    def inputs(self, images: list[np.ndarray]) -> Inputs:
        """What every stage is given, by our own pipeline."""
        batch = self.processor(images_of(images))
        pixel_values = batch.pixel_values.astype(self.model.dtype)
        features = self.stage("backbone", pixel_values)()
        pyramid = self.stage("pixel_decoder", features)()
        predictions = self.network(np.asarray(batch.pixel_values))()
        return Inputs(
            images, batch.sizes, np.asarray(batch.pixel_values), features, pyramid, predictions
        )

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        """By the name of the row."""
        queries = inputs.predictions.class_logits.shape[1]
        return {
            "whole forward": self.network(inputs.pixel_values),
            "backbone": self.stage("backbone", inputs.pixel_values.astype(self.model.dtype)),
            "pixel decoder": self.stage("pixel_decoder", inputs.features),
            "Transformer decoder": self.stage("decoder", inputs.pyramid),
            "preprocessing": lambda: self.processor(images_of(inputs.images)),
            "post-processing": lambda: self.processor.post_process_instance_segmentation(
                inputs.predictions, inputs.sizes, top_k=queries
            ),
        }

    def peak_device_bytes(self) -> int:
        """Of the GPU's memory, in this process."""
        return (self.device.memory_stats() or {})["peak_bytes_in_use"]


class Transformers:
    """Hugging Face's Mask2Former, and the same calls."""

    def __init__(self, folder: Path, settings: Settings):
        import torch
        from transformers import Mask2FormerForUniversalSegmentation

        self.settings = settings
        self.dtype = getattr(torch, settings.dtype)
        self.model = Mask2FormerForUniversalSegmentation.from_pretrained(folder, dtype=self.dtype)
        self.model.eval().to(settings.device)
        self.wait()

    def wait(self):
        """Until the device is done."""
        if self.settings.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def place(self, maps: Any) -> Any:
        """Channels-last maps as theirs: channels first, in their dtype, on their device."""
        import torch

        array = np.array(np.moveaxis(np.asarray(maps).astype(np.float32), -1, 1), order="C")
        return torch.from_numpy(array).to(self.settings.device, self.dtype)

    def call(self, function: Callable[..., Any], *inputs: Any, **named: Any) -> Call:
        """`function` without gradients, and waited for."""
        import torch

        def run() -> Any:
            with torch.inference_mode():
                result = function(*inputs, **named)
            self.wait()
            return result

        return run

    def network(self, pixel_values: np.ndarray) -> Call:
        """The whole forward pass."""
        return self.call(self.model, pixel_values=self.place(pixel_values))

    def predictions(self, pixel_values: np.ndarray) -> Predictions:
        """What the network computes, in our form."""
        output = self.network(pixel_values)()
        return Predictions(
            output.class_queries_logits.float().cpu().numpy(),
            output.masks_queries_logits.float().cpu().numpy(),
        )

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        """By the name of the row."""
        import torch
        from transformers.models.mask2former.modeling_mask2former import (
            Mask2FormerForUniversalSegmentationOutput,
        )

        processor = self.processor()
        pixels, inner = self.model.model.pixel_level_module, self.model.model.transformer_module
        predictions = Mask2FormerForUniversalSegmentationOutput(
            class_queries_logits=torch.tensor(np.asarray(inputs.predictions.class_logits)),
            masks_queries_logits=torch.tensor(np.asarray(inputs.predictions.mask_logits)),
        )
        for name in ("class_queries_logits", "masks_queries_logits"):
            setattr(predictions, name, getattr(predictions, name).to(self.settings.device))
        targets = [image.shape[:2] for image in inputs.images]

        def post_process() -> list[np.ndarray]:
            results = processor.post_process_instance_segmentation(
                predictions, threshold=0.0, target_sizes=targets, return_binary_maps=True
            )
            return [result["segmentation"].cpu().numpy() for result in results]

        calls = {
            "whole forward": self.network(inputs.pixel_values),
            "backbone": self.call(pixels.encoder, self.place(inputs.pixel_values)),
            "pixel decoder": self.call(
                pixels.decoder,
                [self.place(maps) for maps in inputs.features],
                output_hidden_states=False,
            ),
            "Transformer decoder": self.call(
                inner,
                multi_scale_features=[self.place(maps) for maps in inputs.pyramid.features],
                mask_features=self.place(inputs.pyramid.per_pixel),
                output_hidden_states=True,
            ),
            "preprocessing": lambda: processor(images=inputs.images, return_tensors="pt"),
            "post-processing": self.call(post_process),
        }
        if self.settings.compiled:
            compiled = torch.compile(self.model)
            calls["whole forward, torch.compile"] = self.call(
                compiled, pixel_values=self.place(inputs.pixel_values)
            )
        return calls

    def processor(self) -> Any:
        """Their image processor for this size: the faster one, where torchvision is installed."""
        if importlib.util.find_spec("torchvision"):
            from transformers import Mask2FormerImageProcessor as Processor
        else:
            from transformers.models.mask2former.image_processing_pil_mask2former import (
                Mask2FormerImageProcessorPil as Processor,
            )
        height, width = self.settings.size
        return Processor(size={"height": height, "width": width})

    def peak_device_bytes(self) -> int:
        """Of the GPU's memory, in this process."""
        import torch

        return torch.cuda.max_memory_allocated()


class ZeroModels:
    """ZeroModels' Mask2Former in Keras on JAX, with its own random weights."""

    def __init__(self, folder: Path, settings: Settings):
        os.environ["KERAS_BACKEND"] = "jax"
        import keras
        from zeromodels.models.mask2former import (  # pyright: ignore[reportMissingImports]
            Mask2FormerConfig as TheirConfig,
        )
        from zeromodels.models.mask2former import (  # pyright: ignore[reportMissingImports]
            Mask2FormerUniversalSegment,
        )

        del folder
        self.settings = settings
        self.device = jax.devices("cuda" if settings.device == "cuda" else "cpu")[0]
        keras.config.set_dtype_policy(settings.dtype)
        backbone, decoder = settings.config.backbone, settings.config.decoder
        model = Mask2FormerUniversalSegment(
            TheirConfig(
                image_size=settings.size,
                backbone_embed_dim=backbone.embed_dim,
                backbone_depths=backbone.depths,
                backbone_num_heads=backbone.num_heads,
                backbone_window_size=backbone.window_size,
                num_queries=decoder.num_queries,
                num_classes=settings.config.num_classes,
            )
        )
        self.weights = (
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
        )
        self.compiled = jax.jit(lambda weights, x: model.stateless_call(*weights, x)[0])

    def network(self, pixel_values: np.ndarray) -> Call:
        """The whole forward pass."""
        placed = jax.device_put(pixel_values, self.device)

        def call() -> Any:
            with jax.default_matmul_precision(self.settings.precision):
                return jax.block_until_ready(self.compiled(self.weights, placed))

        return call

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        """By the name of the row."""
        return {"whole forward": self.network(inputs.pixel_values)}

    def peak_device_bytes(self) -> int:
        """Of the GPU's memory, in this process."""
        return (self.device.memory_stats() or {})["peak_bytes_in_use"]


PEERS: Mapping[str, Callable[[Path, Settings], Any]] = {
    OURS: Ours,
    "transformers": Transformers,
    "zeromodels": ZeroModels,
}


def images_of(images: list[np.ndarray]) -> list[ImageSource]:
    """Images as what the processor takes."""
    return list(images)


def draw_images(settings: Settings) -> list[np.ndarray]:
    """Blurred colours under noise, larger than the network's input."""
    rng = np.random.default_rng(0)
    height, width = (int(side * ENLARGED) for side in settings.size)
    images = []
    for _ in range(settings.batch):
        colours = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        blurred = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        noisy = blurred + rng.normal(scale=8, size=blurred.shape)
        images.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return images


def save_random_weights(config: Mask2FormerConfig, folder: Path):
    """A model of this architecture as transformers writes it, in which every parameter counts.

    As initialised, all queries sample the same points with equal weights, and windows have no bias.
    """
    import torch
    from transformers import Mask2FormerConfig as TheirConfig
    from transformers import Mask2FormerForUniversalSegmentation, SwinConfig

    backbone, pixels, decoder = config.backbone, config.pixel_decoder, config.decoder
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(
        TheirConfig(
            backbone_config=SwinConfig(
                embed_dim=backbone.embed_dim,
                depths=list(backbone.depths),
                num_heads=list(backbone.num_heads),
                window_size=backbone.window_size,
                mlp_ratio=backbone.mlp_ratio,
                out_features=["stage1", "stage2", "stage3", "stage4"],
            ),
            feature_size=pixels.dim,
            mask_feature_size=pixels.mask_dim,
            hidden_dim=decoder.dim,
            encoder_feedforward_dim=pixels.ffn_dim,
            encoder_layers=pixels.num_layers,
            dim_feedforward=decoder.ffn_dim,
            decoder_layers=decoder.num_layers + 1,
            num_attention_heads=decoder.num_heads,
            num_queries=decoder.num_queries,
            num_labels=config.num_classes,
        )
    )
    spread = {"sampling_offsets": 0.02, "attention_weights": 0.02, "relative_position_bias": 0.2}
    spread |= {"queries_features": 1.0, "queries_embedder": 1.0, "level_embed": 1.0}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = next((std for part, std in spread.items() if part in name), 0.0)
            parameter += std * torch.randn_like(parameter)
    model.save_pretrained(folder)


# How it is measured


def take_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, list[float]]:
    """Seconds of each peer's calls; they take turns, and every other round goes backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for i in range(repeats):
        for name in list(calls)[:: -1 if i % 2 else 1]:
            time.sleep(PAUSE)
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def timed_row(name: str, seconds: Mapping[str, list[float]]) -> Row:
    """Medians, and the medians of the ratios within a round."""
    ratios = {
        peer: statistics.median(a / b for a, b in zip(seconds[OURS], theirs, strict=True))
        for peer, theirs in seconds.items()
        if peer != OURS
    }
    values = {peer: 1e3 * statistics.median(times) for peer, times in seconds.items()}
    return Row(name, "ms", values, ratios)


def alone(folder: Path, name: str, settings: Settings) -> dict[str, float]:
    """What a peer needs in a process of its own."""
    start = time.perf_counter()
    peer = PEERS[name](folder, settings)
    loaded = time.perf_counter()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(settings.batch, *settings.size, 3)).astype(np.float32)
    call = peer.network(values)
    before = time.perf_counter()
    call()
    first = time.perf_counter()
    call()
    on_gpu = settings.device == "cuda"
    peak = peer.peak_device_bytes() if on_gpu else peak_host_bytes()
    return {
        "load, s": loaded - start,
        "first call, s": first - before,
        "peak memory, MiB": peak / 2**20,
    }


def peak_host_bytes() -> int:
    """The most memory that this process has held."""
    with contextlib.suppress(OSError):  # Linux; there, getrusage counts the parent's memory too
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_alone(folder: Path, arguments: Sequence[str], settings: Settings) -> Iterator[Row]:
    """Load time, first call and peak memory of every peer, each in a fresh process."""
    found = {}
    environment = dict(os.environ)
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    for name in (OURS, *settings.peers):
        say(f"{name} in a process of its own")
        (folder / "settings.json").write_text(json.dumps(settings.config.to_dict()))
        done = subprocess.run(
            [sys.executable, __file__, *arguments, "--alone", name, "--folder", str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{name} failed in a process of its own; see above")
        found[name] = json.loads(done.stdout.splitlines()[-1])
    for key in next(iter(found.values())):
        values = {name: figures[key] for name, figures in found.items()}
        ratios = {name: values[OURS] / values[name] for name in settings.peers}
        label, _, unit = key.partition(", ")
        yield Row(label, unit, values, ratios)


def check_agreement(ours: Predictions, theirs: Predictions, settings: Settings) -> dict[str, Any]:
    """How far the logits are apart; float32 models that aren't the same function are an error."""
    masks = np.asarray(ours.mask_logits)
    flipped = int(((masks >= 0) != (theirs.mask_logits >= 0)).sum())
    agreement = {
        "class logits, max abs difference": float(
            np.abs(np.asarray(ours.class_logits) - theirs.class_logits).max()
        ),
        "mask logits, max abs difference": float(np.abs(masks - theirs.mask_logits).max()),
        "mask logits, max abs": float(np.abs(masks).max()),
        "mask pixels that differ": flipped,
        "mask pixels": masks.size,
    }
    exact = settings.dtype == "float32" and not settings.tf32
    if exact and flipped > MOST_FLIPPED * masks.size:
        raise SystemExit(f"the peers don't compute the same function: {agreement}")
    return agreement


def measure(folder: Path, settings: Settings) -> tuple[dict[str, Any], list[Row]]:
    """The agreement of the networks, and the rows of calls that take turns."""
    say("loading every peer into one process")
    peers = {name: PEERS[name](folder, settings) for name in (OURS, *settings.peers)}
    inputs = peers[OURS].inputs(draw_images(settings))
    agreement: dict[str, Any] = {}
    if "transformers" in peers:
        theirs = peers["transformers"].predictions(inputs.pixel_values)
        agreement = check_agreement(inputs.predictions, theirs, settings)
    calls = {name: peer.calls(inputs) for name, peer in peers.items()}
    if settings.compiled:
        calls[OURS]["whole forward, torch.compile"] = calls[OURS]["whole forward"]
    rows = []
    for name in calls[OURS]:
        say(name)
        turns = {peer: those[name] for peer, those in calls.items() if name in those}
        rows.append(timed_row(name, take_turns(turns, settings.repeats)))
    return agreement, rows


# What is printed


def say(text: str):
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def processor_name() -> str:
    """The model of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(settings: Settings) -> dict[str, Any]:
    """Machine, versions and settings."""
    machine = {
        "processor": processor_name(),
        "threads of each peer": settings.threads,
        "system": platform.system(),
    }
    packages = ["m2f-jax", "jax", "jaxlib", "flax", "numpy"]
    if "transformers" in settings.peers:
        import torch

        packages += ["torch", "transformers"]
        if settings.device == "cuda":
            machine["gpu"] = torch.cuda.get_device_name()
    if "zeromodels" in settings.peers:
        packages += ["zeromodels", "keras"]
    return {
        "machine": machine,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "settings": {
            "size": settings.size,
            "batch": settings.batch,
            "dtype": settings.dtype,
            "device": settings.device,
            "float32 matrix products": "TF32" if settings.tf32 else "float32",
            "repeats": settings.repeats,
        },
    }


def show(title: str, description: Mapping[str, Any], agreement: Mapping, rows: Sequence[Row]):
    """The table, and below it what it was measured with."""
    peers = list(rows[0].ratios)
    table = Table(title=title)
    table.add_column("")
    for column in (OURS, *itertools.chain(*((peer, "ours / theirs") for peer in peers))):
        table.add_column(column, justify="right")
    for row in rows:
        cells = [f"{row.name}, {row.unit}", f"{row.values[OURS]:,.1f}"]
        for peer in peers:
            present = peer in row.values
            cells += [
                f"{row.values[peer]:,.1f}" if present else "",
                f"{row.ratios[peer]:.2f}" if present else "",
            ]
        table.add_row(*cells)
    # Wide enough that a table in a file or a pipe isn't cut.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    for name, values in (*description.items(), ("agreement", agreement)):
        text = ", ".join(f"{key} {value}" for key, value in values.items())
        console.print(f"{name}: {text}", soft_wrap=True)


# From the command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="swin-tiny-coco-instance", help="a published model")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(384, 384),
        metavar=("HEIGHT", "WIDTH"),
        help=f"of the network's input: multiples of {MULTIPLE} (default: 384 384)",
    )
    parser.add_argument("--batch", type=int, default=1, help="images at a time")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="by default the GPU, if every peer finds one"
    )
    parser.add_argument("--tf32", action="store_true", help="on a GPU, for float32 products")
    parser.add_argument("--compile", action="store_true", help="also torch.compile for their model")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many")
    parser.add_argument("--threads", type=int, help="of the CPU, for every peer; by default all")
    parser.add_argument("--peers", default="transformers", help="transformers, zeromodels or both")
    parser.add_argument("--json", metavar="FILE", help="also write everything here")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # a peer, in a process of its own
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def check_peers(names: Sequence[str]):
    """Refuses peers that are unknown or not installed."""
    for name in names:
        if name not in NEEDS:
            raise SystemExit(f"--peers knows {', '.join(NEEDS)}, not {name!r}")
    for name in ("transformers", *names):  # which also makes the weights
        packages, remedy = NEEDS[name]
        if missing := [p for p in packages if importlib.util.find_spec(p) is None]:
            raise SystemExit(f"{name} needs {' and '.join(missing)}: {remedy}")


def choose_device(wanted: str | None, peers: Sequence[str]) -> str:
    """The device that was asked for, or a GPU if there's one for all."""
    if wanted == "cpu":
        return wanted
    import torch

    missing = [] if torch.cuda.is_available() or "transformers" not in peers else ["PyTorch"]
    try:
        jax.devices("cuda")
    except RuntimeError:
        missing.append("JAX (pip install 'm2f-jax[cuda12]')")
    if missing and wanted == "cuda":
        raise SystemExit(f"no CUDA device for {' and '.join(missing)}")
    return "cpu" if missing else "cuda"


def limit_threads(wanted: int | None) -> int:
    """Keeps this process and its children on so many processors, and says how many."""
    if not hasattr(os, "sched_getaffinity"):
        if wanted is not None:
            raise SystemExit("--threads works on Linux only")
        return os.cpu_count() or 1
    available = sorted(os.sched_getaffinity(0))
    if wanted is not None:
        if not 1 <= wanted <= len(available):
            raise SystemExit(f"--threads is 1 to {len(available)} here, not {wanted}")
        os.sched_setaffinity(0, available[:wanted])
    return wanted or len(available)


def prepare(options: argparse.Namespace, config: Mask2FormerConfig) -> Settings:
    """Sets both frameworks up alike. It comes before anything touches a device.

    Raises:
        SystemExit: a peer isn't there, or an option is out of range.
    """
    peers = tuple(name for name in options.peers.split(",") if name)
    check_peers(peers)
    if any(side < MULTIPLE or side % MULTIPLE for side in options.size):
        raise SystemExit(f"--size takes multiples of {MULTIPLE}, not {options.size}")
    if min(options.batch, options.repeats) < 1:
        raise SystemExit("--batch and --repeats are 1 or more")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is shared
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    threads = limit_threads(options.threads)
    if options.device == "cpu":
        jax.config.update("jax_platforms", "cpu")

    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    torch.backends.cudnn.allow_tf32 = options.tf32
    return Settings(
        config=config,
        size=tuple(options.size),
        batch=options.batch,
        dtype=options.dtype,
        device=choose_device(options.device, peers),
        tf32=options.tf32,
        compiled=options.compile,
        repeats=options.repeats,
        threads=threads,
        peers=peers,
    )


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints one table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    if options.alone:
        folder = Path(options.folder)
        config = Mask2FormerConfig.load(folder / "settings.json")
        print(json.dumps(alone(folder, options.alone, prepare(options, config))))
        return
    try:
        config = preset(options.preset).config
    except ValueError as error:
        raise SystemExit(f"--preset: {error}") from error
    settings = prepare(options, config)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say(f"random weights for {options.preset}")
        save_random_weights(config, folder)
        single = list(measure_alone(folder, [*arguments, "--device", settings.device], settings))
        agreement, rows = measure(folder, settings)
    rows += single
    description = describe(settings)
    title = f"{options.preset}, {settings.batch} x {settings.size[0]} x {settings.size[1]}"
    show(title, description, agreement, rows)
    if options.json:
        report = {"preset": options.preset, **description, "agreement": agreement}
        report["rows"] = [row._asdict() for row in rows]
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
