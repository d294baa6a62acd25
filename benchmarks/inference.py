"""Times this Mask2Former beside its peers: same weights, same input, same machine, one run.

    python benchmarks/inference.py --preset swin-tiny-coco-instance --size 384 384

The weights are random, made by transformers, saved, and loaded by both. Both must give the same
logits; then calls of all peers take turns, so that a machine that slows down slows down for all.
README.md beside this file says what each row means.

Every framework is imported where it is used: a process that measures one holds no other.
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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from m2f_jax.config import Mask2FormerConfig, PixelDecoderConfig
from m2f_jax.presets import preset

if TYPE_CHECKING:
    from m2f_jax import FeaturePyramid, ImageSize, Predictions

OURS = "m2f-jax"
NEEDS = {  # the packages of each peer, and how to get them
    "transformers": (("torch", "transformers"), "pip install 'm2f-jax[torch]'"),
    "zeromodels": (("keras", "zeromodels"), "pip install zeromodels keras"),
}
MULTIPLE = 32  # sides that every peer takes as they are
ENLARGED = 1.25  # the images, compared with the network's input
MOST_FLIPPED = 1e-3  # of all mask pixels, if two networks are the same function in float32
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


class Inputs(NamedTuple):
    """What the calls are given: images, and what one stage hands to the next."""

    images: list[np.ndarray]
    sizes: "tuple[ImageSize, ...]"
    pixel_values: np.ndarray
    features: tuple[Any, ...]
    pyramid: "FeaturePyramid"
    predictions: "Predictions"


class Row(NamedTuple):
    """One line of the table: what each peer took, and ours divided by theirs."""

    name: str
    unit: str
    values: dict[str, float]
    ratios: dict[str, float]


# The peers. Each loads the weights in a folder, and has `network`, a call of the whole network;
# `calls`, one per row of the table; and `peak_device_bytes`.


class OnJax:
    """What both peers on JAX share."""

    def __init__(self, settings: Settings):
        import jax

        self.settings = settings
        self.device = jax.devices(settings.device)[0]

    def run(self, function: Callable[..., Any], *inputs: Any) -> Call:
        """`function` of inputs on the device, at the precision of the settings, and waited for."""
        import jax

        placed = jax.device_put(inputs, self.device)
        precision = "tensorfloat32" if self.settings.tf32 else "highest"

        def call() -> Any:
            with jax.default_matmul_precision(precision):
                return jax.block_until_ready(function(*placed))

        return call

    def peak_device_bytes(self) -> int:
        return (self.device.memory_stats() or {})["peak_bytes_in_use"]


class Ours(OnJax):
    """This project."""

    def __init__(self, folder: Path, settings: Settings):
        super().__init__(settings)
        import jax
        from flax import nnx

        from m2f_jax import ImageProcessor, Mask2Former

        with jax.default_device(self.device):
            self.model = Mask2Former.from_pretrained(folder, settings.dtype)
        jax.block_until_ready(nnx.state(self.model))
        self.stages: dict[str, tuple[Callable[..., Any], Any]] = {}
        self.processor = ImageProcessor(
            shortest_edge=min(settings.size), longest_edge=max(settings.size)
        )

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.run(self.model, pixel_values)

    def stage(self, name: str, inputs: Any) -> Call:
        """One stage, as a compiled function of its parameters and its inputs."""
        import jax
        from flax import nnx

        if name not in self.stages:
            graph, state = nnx.split(getattr(self.model, name))
            compiled = jax.jit(lambda state, inputs: nnx.merge(graph, state)(inputs))
            self.stages[name] = compiled, state
        return self.run(*self.stages[name], inputs)

    def inputs(self, images: list[np.ndarray]) -> Inputs:
        """What every peer is given at every stage."""
        batch = self.processor(list(images))
        pixel_values = np.asarray(batch.pixel_values)
        features = self.stage("backbone", pixel_values.astype(self.model.dtype))()
        pyramid = self.stage("pixel_decoder", features)()
        predictions = self.network(pixel_values)()
        return Inputs(images, batch.sizes, pixel_values, features, pyramid, predictions)

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        queries = inputs.predictions.class_logits.shape[1]
        network = self.network(inputs.pixel_values)
        compiled = {"whole forward, torch.compile": network} if self.settings.compiled else {}
        return {
            "whole forward": network,
            **compiled,
            "backbone": self.stage("backbone", inputs.pixel_values.astype(self.model.dtype)),
            "pixel decoder": self.stage("pixel_decoder", inputs.features),
            "Transformer decoder": self.stage("decoder", inputs.pyramid),
            "preprocessing": lambda: self.processor(list(inputs.images)),
            "post-processing": lambda: self.processor.post_process_instance_segmentation(
                inputs.predictions, inputs.sizes, top_k=queries
            ),
        }


class Transformers:
    """Hugging Face's Mask2Former on PyTorch."""

    def __init__(self, folder: Path, settings: Settings):
        import torch
        from transformers import Mask2FormerForUniversalSegmentation

        quieten_transformers()
        torch.set_num_threads(settings.threads)
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32
        torch.backends.cudnn.allow_tf32 = settings.tf32
        self.settings = settings
        self.dtype = getattr(torch, settings.dtype)
        model: Any = Mask2FormerForUniversalSegmentation.from_pretrained(folder, dtype=self.dtype)
        self.model = model.eval().to(settings.device)
        self.wait()

    def wait(self):
        """Until the device is done."""
        import torch

        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    def run(self, function: Callable[..., Any], *inputs: Any, **named: Any) -> Call:
        """`function` without gradients, and waited for."""
        import torch

        def call() -> Any:
            with torch.inference_mode():
                result = function(*inputs, **named)
            self.wait()
            return result

        return call

    def place(self, maps: Any) -> Any:
        """Channels-last maps as theirs: channels first, in their dtype, on their device."""
        import torch

        array = np.moveaxis(np.asarray(maps).astype(np.float32), -1, 1).copy()
        return torch.from_numpy(array).to(self.settings.device, self.dtype)

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.run(self.model, pixel_values=self.place(pixel_values))

    def predictions(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class and mask logits."""
        output = self.network(pixel_values)()
        logits = output.class_queries_logits, output.masks_queries_logits
        return logits[0].float().cpu().numpy(), logits[1].float().cpu().numpy()

    def processor(self) -> Any:
        """Their image processor for this size: the newer one where torchvision is installed."""
        height, width = self.settings.size
        if importlib.util.find_spec("torchvision"):
            from transformers import Mask2FormerImageProcessor as Processor
        else:
            from transformers.models.mask2former.image_processing_pil_mask2former import (
                Mask2FormerImageProcessorPil as Processor,
            )
        return Processor(size={"height": height, "width": width})

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        import torch
        from transformers.models.mask2former.modeling_mask2former import (
            Mask2FormerForUniversalSegmentationOutput as Output,
        )

        processor = self.processor()
        pixel_module, transformer = (
            self.model.model.pixel_level_module,
            self.model.model.transformer_module,
        )
        logits = [
            torch.tensor(np.asarray(x), device=self.settings.device) for x in inputs.predictions
        ]
        output = Output(class_queries_logits=logits[0], masks_queries_logits=logits[1])
        targets = [image.shape[:2] for image in inputs.images]

        def post_process() -> list[np.ndarray]:
            results = processor.post_process_instance_segmentation(
                output, threshold=0.0, target_sizes=targets, return_binary_maps=True
            )
            return [result["segmentation"].cpu().numpy() for result in results]

        calls = {
            "whole forward": self.network(inputs.pixel_values),
            "backbone": self.run(pixel_module.encoder, self.place(inputs.pixel_values)),
            "pixel decoder": self.run(
                pixel_module.decoder,
                [self.place(maps) for maps in inputs.features],
                output_hidden_states=False,
            ),
            "Transformer decoder": self.run(
                transformer,
                multi_scale_features=[self.place(maps) for maps in inputs.pyramid.features],
                mask_features=self.place(inputs.pyramid.per_pixel),
                output_hidden_states=True,
            ),
            "preprocessing": lambda: processor(images=inputs.images, return_tensors="pt"),
            "post-processing": self.run(post_process),
        }
        if self.settings.compiled:
            calls["whole forward, torch.compile"] = self.run(
                torch.compile(self.model), pixel_values=self.place(inputs.pixel_values)
            )
        return calls

    def peak_device_bytes(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated()


class ZeroModels(OnJax):
    """ZeroModels' Mask2Former in Keras on JAX, with random weights of its own."""

    def __init__(self, folder: Path, settings: Settings):  # noqa: ARG002 - as the other peers
        super().__init__(settings)
        os.environ["KERAS_BACKEND"] = "jax"
        keras: Any = importlib.import_module("keras")
        theirs: Any = importlib.import_module("zeromodels.models.mask2former")
        import jax

        keras.config.set_dtype_policy(settings.dtype)
        backbone = settings.config.backbone
        config = theirs.Mask2FormerConfig(
            image_size=settings.size,
            backbone_embed_dim=backbone.embed_dim,
            backbone_depths=backbone.depths,
            backbone_num_heads=backbone.num_heads,
            backbone_window_size=backbone.window_size,
            num_queries=settings.config.decoder.num_queries,
            num_classes=settings.config.num_classes,
        )
        with jax.default_device(self.device):
            model = theirs.Mask2FormerUniversalSegment(config)
        variables = model.trainable_variables, model.non_trainable_variables
        self.weights = [[variable.value for variable in group] for group in variables]
        self.forward = jax.jit(lambda weights, x: model.stateless_call(*weights, x)[0])

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.run(self.forward, self.weights, pixel_values)

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        return {"whole forward": self.network(inputs.pixel_values)}


PEERS: Mapping[str, Callable[[Path, Settings], Any]] = {
    OURS: Ours,
    "transformers": Transformers,
    "zeromodels": ZeroModels,
}


def quieten_transformers():
    """No progress bars and advice between ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


# What they are given


def draw_images(settings: Settings) -> list[np.ndarray]:
    """Blurred colours under noise, larger than the network's input."""
    rng = np.random.default_rng(0)
    height, width = (int(side * ENLARGED) for side in settings.size)
    images = []
    for _ in range(settings.batch):
        colours = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        blurred = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC))
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

    quieten_transformers()
    pixel = config.pixel_decoder
    assert isinstance(pixel, PixelDecoderConfig), "every preset's is deformable"
    backbone: dict[str, Any] = {
        "embed_dim": config.backbone.embed_dim,
        "depths": list(config.backbone.depths),
        "num_heads": list(config.backbone.num_heads),
        "window_size": config.backbone.window_size,
        "mlp_ratio": config.backbone.mlp_ratio,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    rest: dict[str, Any] = {
        "feature_size": pixel.dim,
        "mask_feature_size": pixel.mask_dim,
        "encoder_feedforward_dim": pixel.ffn_dim,
        "encoder_layers": pixel.num_layers,
        "hidden_dim": config.decoder.dim,
        "dim_feedforward": config.decoder.ffn_dim,
        "decoder_layers": config.decoder.num_layers + 1,
        "num_attention_heads": config.decoder.num_heads,
        "num_queries": config.decoder.num_queries,
        "num_labels": config.num_classes,
    }
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(
        TheirConfig(backbone_config=SwinConfig(**backbone), **rest)
    )
    spread = {
        "sampling_offsets": 0.02,
        "attention_weights": 0.02,
        "relative_position_bias": 0.2,
        "queries_": 1.0,
        "level_embed": 1.0,
    }
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
    values = {peer: 1000 * statistics.median(times) for peer, times in seconds.items()}
    return Row(name, "ms", values, ratios)


def measure_together(folder: Path, settings: Settings) -> tuple[dict[str, float], list[Row]]:
    """How far the logits are apart, and the rows of calls that take turns."""
    say("loading all into one process")
    peers = {name: PEERS[name](folder, settings) for name in (OURS, *settings.peers)}
    inputs = peers[OURS].inputs(draw_images(settings))
    agreement = {}
    if "transformers" in peers:
        theirs = peers["transformers"].predictions(inputs.pixel_values)
        agreement = compare(inputs.predictions, theirs, settings)
    calls = {name: peer.calls(inputs) for name, peer in peers.items()}
    rows = []
    for name in calls[OURS]:
        say(name)
        turns = {peer: named[name] for peer, named in calls.items() if name in named}
        rows.append(timed_row(name, take_turns(turns, settings.repeats)))
    return agreement, rows


def compare(
    ours: "Predictions", theirs: tuple[np.ndarray, np.ndarray], settings: Settings
) -> dict[str, float]:
    """How far the logits are apart.

    Raises:
        SystemExit: these aren't the same function.
    """
    differences = [float(abs(np.asarray(a) - b).max()) for a, b in zip(ours, theirs, strict=True)]
    masks = np.asarray(ours.mask_logits)
    flipped = int(((masks >= 0) != (theirs[1] >= 0)).sum())
    if settings.dtype == "float32" and not settings.tf32 and flipped > MOST_FLIPPED * masks.size:
        raise SystemExit(f"the networks differ in {flipped} of {masks.size} mask pixels")
    return {
        "largest difference of class logits": differences[0],
        "largest difference of mask logits": differences[1],
        "mask pixels that flip": flipped,
        "mask pixels": masks.size,
    }


def measure_alone(folder: Path, arguments: Sequence[str], settings: Settings) -> Iterator[Row]:
    """Load time, first call and peak memory of every peer, each in a fresh process."""
    found = {}
    (folder / "architecture.json").write_text(json.dumps(settings.config.to_dict()))
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    for name in (OURS, *settings.peers):
        say(f"{name} in a process of its own")
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
    for key in found[OURS]:
        values = {name: figures[key] for name, figures in found.items()}
        ratios = {name: values[OURS] / values[name] for name in settings.peers}
        label, unit = key.split(", ")
        yield Row(label, unit, values, ratios)


def measure_this_process(folder: Path, name: str, settings: Settings) -> dict[str, float]:
    """What `measure_alone` wants of one peer."""
    start = time.perf_counter()
    peer = PEERS[name](folder, settings)
    loaded = time.perf_counter()
    rng = np.random.default_rng(0)
    call = peer.network(rng.normal(size=(settings.batch, *settings.size, 3)).astype(np.float32))
    ready = time.perf_counter()
    call()
    first = time.perf_counter()
    call()
    peak = peer.peak_device_bytes() if settings.device == "cuda" else peak_host_bytes()
    return {
        "import and load, s": loaded - start,
        "first call, s": first - ready,
        "peak memory, MiB": peak / 2**20,
    }


def peak_host_bytes() -> int:
    """The most memory that this process has held."""
    with contextlib.suppress(OSError):  # on Linux, where getrusage counts the parent's memory too
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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


def describe(settings: Settings) -> dict[str, dict[str, Any]]:
    """Machine, versions and settings."""
    machine = {"CPU": processor_name(), "system": platform.system()}
    packages = ["m2f-jax", "jax", "jaxlib", "flax", "numpy"]
    for peer in settings.peers:
        packages += NEEDS[peer][0]
    if settings.device == "cuda":
        import torch

        machine["GPU"] = torch.cuda.get_device_name()
    shown = settings._asdict() | {
        "float32 products": "TensorFloat-32" if settings.tf32 else "full precision"
    }
    for hidden in ("config", "tf32", "peers"):
        del shown[hidden]
    return {
        "machine": machine | {"load before": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "settings": shown,
    }


def show(title: str, description: Mapping[str, Mapping[str, Any]], rows: Sequence[Row]):
    """The table, and below it what it was measured with."""
    peers = list(rows[0].ratios)
    table = Table(title=title)
    table.add_column("")
    for column in (OURS, *itertools.chain(*((peer, "ours / theirs") for peer in peers))):
        table.add_column(column, justify="right")
    for row in rows:
        cells = [f"{row.name}, {row.unit}", f"{row.values[OURS]:,.1f}"]
        for peer in peers:
            if peer in row.values:
                cells += [f"{row.values[peer]:,.1f}", f"{row.ratios[peer]:.2f}"]
            else:
                cells += ["", ""]
        table.add_row(*cells)
    # In a file or a pipe, wide enough that nothing is cut.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    for name, values in description.items():
        shown = ", ".join(
            f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in values.items()
        )
        console.print(f"{name}: {shown}", soft_wrap=True)


# From the command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
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
        "--device", choices=("cpu", "cuda"), help="by default cuda, where every peer has it"
    )
    parser.add_argument("--tf32", action="store_true", help="for float32 products on a GPU")
    parser.add_argument("--compile", action="store_true", help="add torch.compile to theirs")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many")
    parser.add_argument("--threads", type=int, help="on the CPU, of every peer; by default all")
    parser.add_argument("--peers", default="transformers", help="transformers,zeromodels")
    parser.add_argument("--json", metavar="FILE", help="also write everything here")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # the peer of this process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the weights
    options = parser.parse_args(arguments)
    options.peers = tuple(options.peers.split(","))
    if unknown := sorted(set(options.peers) - set(NEEDS)):
        parser.error(f"--peers: choose from {', '.join(NEEDS)}, not {', '.join(unknown)}")
    if any(side < MULTIPLE or side % MULTIPLE for side in options.size):
        parser.error(f"--size: multiples of {MULTIPLE}, not {options.size[0]} {options.size[1]}")
    if min(options.batch, options.repeats) < 1:
        parser.error("--batch and --repeats: 1 or more")
    return options


def check_installed(peers: Sequence[str]):
    """Refuses to begin without a package; transformers makes the weights, so it's always needed."""
    for peer in ("transformers", *peers):
        packages, remedy = NEEDS[peer]
        if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
            raise SystemExit(f"{peer} needs {' and '.join(missing)}: {remedy}")


def choose_device(wanted: str | None) -> str:
    """The device that was asked for, or a GPU that both frameworks see."""
    if wanted == "cpu":
        return wanted
    import jax
    import torch

    blind = []
    if not torch.cuda.is_available():
        blind.append("PyTorch")
    try:
        jax.devices("cuda")
    except RuntimeError:
        blind.append("JAX (pip install 'm2f-jax[cuda12]')")
    if wanted and blind:
        raise SystemExit(f"--device cuda: there is no CUDA device for {' and '.join(blind)}")
    return "cpu" if blind else "cuda"


def limit_threads(wanted: int | None) -> int:
    """Keeps this process and its children to so many processors, and says how many."""
    if not hasattr(os, "sched_setaffinity"):
        if wanted:
            raise SystemExit("--threads works on Linux only")
        return os.cpu_count() or 1
    available = sorted(os.sched_getaffinity(0))
    if wanted:
        if not 1 <= wanted <= len(available):
            raise SystemExit(f"--threads: 1 to {len(available)} here, not {wanted}")
        os.sched_setaffinity(0, available[:wanted])
    return wanted or len(available)


def settle(options: argparse.Namespace, config: Mask2FormerConfig) -> Settings:
    """The settings, made known to both frameworks before they start."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is shared
    if options.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    threads = limit_threads(options.threads)
    return Settings(
        config=config,
        size=tuple(options.size),
        batch=options.batch,
        dtype=options.dtype,
        device=options.device if options.alone else choose_device(options.device),
        tf32=options.tf32,
        compiled=options.compile,
        repeats=options.repeats,
        threads=threads,
        peers=options.peers,
    )


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints one table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    if options.alone:
        settings = settle(options, Mask2FormerConfig.load(options.folder / "architecture.json"))
        print(json.dumps(measure_this_process(options.folder, options.alone, settings)))
        return
    check_installed(options.peers)
    try:
        config = preset(options.preset).config
    except ValueError as error:
        raise SystemExit(f"--preset: {error}") from error
    settings = settle(options, config)
    description = describe(settings)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say(f"random weights for {options.preset}")
        save_random_weights(config, folder)
        alone = list(measure_alone(folder, [*arguments, "--device", settings.device], settings))
        agreement, rows = measure_together(folder, settings)
    rows += alone
    description["agreement"] = agreement
    height, width = settings.size
    show(f"{options.preset}, {settings.batch} x {height} x {width}", description, rows)
    if options.json:
        report = {"preset": options.preset, **description, "rows": [row._asdict() for row in rows]}
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
