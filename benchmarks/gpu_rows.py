"""The rows of gpu.py: what each gets ready, and what it measures once it has the device.

A row is a generator of a job. What comes before its only `yield` may share the machine with other
rows (tracing, compiling, loading weights); what comes after it has the GPU for itself. It returns
figures, a line of the table each, and details, which are only in the JSON.
"""

import functools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from reporting import OURS

from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)
from m2f_jax.labels import numbered
from m2f_jax.presets import preset
from m2f_jax.structures import Size

THEIRS = "transformers"
WEIGHTS = "weights"  # the folder of the model that both sides load
COMPLETE = "complete"  # a file in it, once all is written
ROUNDS = 9
ROUND_SECONDS = 0.15
SLOW = 0.5  # seconds of a call that isn't repeated as often
REPOSITORY = Path(__file__).parents[1]


class Scale(NamedTuple):
    """How large everything is."""

    config: Mask2FormerConfig
    size: Size  # of the image that most rows are about
    batch: int  # of such images, in the row of batches
    small: Size  # of the images of the large batch
    small_batch: int
    train_size: Size
    train_batch: int
    train_steps: int
    problems: int  # of matching
    streets: int  # drawn to train the model in the package on
    street_size: str

    @classmethod
    def full(cls) -> "Scale":
        """The published Swin-L for instances of Cityscapes."""
        return cls(
            config=preset("swin-large-cityscapes-instance").config,
            size=(1024, 2048),
            batch=4,
            small=(384, 384),
            small_batch=16,
            train_size=(512, 1024),
            train_batch=4,
            train_steps=12,
            problems=40,
            streets=1600,
            street_size="256x512",
        )

    @classmethod
    def toy(cls) -> "Scale":
        """A model that compiles as fast as one can; its figures mean nothing."""
        config = Mask2FormerConfig(
            labels=numbered(2),
            task="instance",
            backbone=SwinConfig(
                embed_dim=16,
                depths=(1, 1, 1, 1),
                num_heads=(1, 1, 2, 2),
                window_size=4,
                mlp_ratio=1.0,
            ),
            pixel_decoder=PixelDecoderConfig(
                dim=32, mask_dim=8, num_layers=1, num_heads=2, ffn_dim=8
            ),
            decoder=TransformerDecoderConfig(
                dim=32, num_layers=1, num_heads=2, ffn_dim=8, num_queries=5
            ),
        )
        return cls(
            config=config,
            size=(64, 96),
            batch=2,
            small=(32, 32),
            small_batch=2,
            train_size=(64, 64),
            train_batch=2,
            train_steps=4,
            problems=2,
            streets=2,
            street_size="128x256",
        )


@dataclass
class Job:
    """What a row is told.

    Attributes:
        scale: how large everything is.
        device: "cuda" or "cpu".
        out: the suite's folder.
        seconds_left: until the suite ends; known once the row has the device.
    """

    scale: Scale
    device: str
    out: Path
    seconds_left: float = 0.0

    def weights(self) -> Path:
        """The folder of the weights as Hugging Face has them, once they are written."""
        return self._written(self.out / WEIGHTS / "huggingface")

    def our_weights(self) -> Path:
        """The folder of the same weights as ours, which has the other in it, as in training.py."""
        return self._written(self.out / WEIGHTS)

    @staticmethod
    def _written(folder: Path) -> Path:
        while not (folder / COMPLETE).exists():
            time.sleep(0.2)
        return folder


Figures = list[dict[str, Any]]
Measuring = Generator[None, None, tuple[Figures, dict[str, Any]]]


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        title: what it shows.
        measure: the generator.
        limit: seconds that it may have the device.
        after: rows that must have ended before it gets ready.
        alone: it gets ready with nothing beside it, since that is what it measures.
        slow_to_start: it compiles for minutes, so it starts first.
        on_cpu: it can also run on a CPU.
        environment: of its process.
    """

    title: str
    measure: Callable[[Job], Measuring]
    limit: float = 30
    after: tuple[str, ...] = ()
    alone: bool = False
    slow_to_start: bool = False
    on_cpu: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


def figure(what: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    """A line of the table."""
    return {"what": what, "value": value, "unit": unit, **more}


def timed(what: str, call: Callable[[], Any], wait: Callable[[Any], Any]) -> dict[str, Any]:
    """The median of some rounds, in each of which calls are started one after another.

    Returns:
        A figure in milliseconds of one call, with the rounds' least and most, and with the
        milliseconds of a call that is waited for by itself.
    """
    start = time.perf_counter()
    wait(call())
    slow = time.perf_counter() - start > SLOW
    single = []
    for _ in range(2 if slow else 5):
        start = time.perf_counter()
        wait(call())
        single.append(time.perf_counter() - start)
    calls = max(1, int(ROUND_SECONDS / statistics.median(single)))
    rounds = []
    for _ in range(3 if slow else ROUNDS):
        start = time.perf_counter()
        last = call()
        for _ in range(calls - 1):
            last = call()  # earlier results are given up, or they would fill the memory
        wait(last)
        rounds.append(1000 * (time.perf_counter() - start) / calls)
    return figure(
        what,
        statistics.median(rounds),
        "ms",
        least=min(rounds),
        most=max(rounds),
        single=1000 * statistics.median(single),
        calls=calls,
    )


def jax_device(job: Job) -> Any:
    """The first device of the kind that is measured."""
    import jax

    return jax.devices(job.device)[0]


def wait_for_jax(results: Any):
    """Until arrays are there."""
    import jax

    jax.block_until_ready(results)


def describe_size(batch: int, size: Size) -> str:
    """For people."""
    return f"{batch} x {size[0]} x {size[1]}"


# The device itself


def measure_device(job: Job) -> Measuring:
    """What the device can do at most: bytes copied and products of matrices, on random data."""
    import jax
    import jax.numpy as jnp

    side, numbers = (8192, 2**29) if job.device == "cuda" else (256, 2**16)
    copy = jax.jit(lambda x: x + 1)
    multiply = jax.jit(lambda a, b: a @ b)
    device = jax_device(job)
    keys = jax.random.split(jax.random.key(0), 3)
    with jax.default_device(device):
        a, b = (jax.random.normal(key, (side, side), jnp.bfloat16) for key in keys[:2])
        x = jax.random.normal(keys[2], (numbers,), jnp.bfloat16)
        wait_for_jax((copy(x), multiply(a, b)))
    yield
    copied = timed("copy", lambda: copy(x), wait_for_jax)
    product = timed("product", lambda: multiply(a, b), wait_for_jax)
    memory = device.memory_stats() or {}
    return [
        figure("copying, bytes read and written", 4 * numbers / copied["value"] / 1e9, "TB/s"),
        figure(
            f"product of {side} x {side} in bfloat16",
            2 * side**3 / product["value"] / 1e9,
            "TFLOP/s",
        ),
        figure("memory", memory.get("bytes_limit", 0) / 2**30, "GiB"),
    ], {}


# Is it the same function?


def relative(one: Any, other: Any) -> float:
    """The norm of a difference, relative to the second norm."""
    one, other = (np.asarray(x, np.float64) for x in (one, other))
    return float(np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-30))


def check_against_cpu(job: Job) -> Measuring:
    """The operators and the Segmenter in float32, beside the results of this machine's CPU."""
    import jax
    from deformable_attention import Settings, draw

    from m2f_jax import Segmenter
    from m2f_jax.ops.ms_deform_attn import ms_deform_attn
    from m2f_jax.ops.window_attention import window_attention

    device, cpu = jax_device(job), jax.devices("cpu")[0]
    settings = Settings((256, 512), 8, 4, "float32", job.device, 1, 1, ())
    values, locations, weights, gradient = draw(settings)

    def deform(values: Any, locations: Any, weights: Any, gradient: Any) -> Any:
        def operator(*x: Any) -> Any:
            return ms_deform_attn(x[0], settings.sizes, *x[1:])

        result, derivative = jax.vjp(operator, values, locations, weights)
        return result, *derivative(gradient)

    rng = np.random.default_rng(0)
    window = tuple(
        rng.normal(size=shape).astype(np.float32)
        for shape in ((1, 50, 70, 3 * 64), (3 * 64,), (2, 144, 144))
    )
    attend = functools.partial(window_attention, window_size=12, shifted=True)
    programs = {
        "deformable attention and its gradients": (deform, (values, locations, weights, gradient)),
        "window attention": (attend, window),
    }
    figures, found = [], {}
    with jax.default_matmul_precision("highest"):
        for name, (function, arguments) in programs.items():
            there, here = (
                jax.tree.leaves(jax.jit(function)(*jax.device_put(arguments, x)))
                for x in (device, cpu)
            )
            worst = max(relative(a, b) for a, b in zip(there, here, strict=True))
            figures.append(figure(f"{name}, from a CPU's", worst, "relative"))
    image = REPOSITORY / "examples" / "street.jpg"
    for place, x in (("device", device), ("cpu", cpu)):
        segmenter = Segmenter.from_pretrained("streets", "float32", devices=[x])
        found[place] = [segmenter(image, task) for task in ("instance", "panoptic", "semantic")]
    yield
    (instances, panoptic, semantic), theirs = found["device"], found["cpu"]
    if job.device != "cpu":  # else they are one
        assert figures[0]["value"] < 1e-4, figures
        assert figures[1]["value"] < 1e-4, figures
    count = min(len(instances.scores), len(theirs[0].scores))
    same = (instances.labels[:count] == theirs[0].labels[:count]).mean()
    figures += [
        figure(
            "instances found, and on a CPU", len(instances.scores), "", cpu=len(theirs[0].scores)
        ),
        figure(
            "scores of instances, largest difference",
            float(abs(instances.scores[:count] - theirs[0].scores[:count]).max()),
            "",
        ),
        figure("labels of instances that agree", float(same), ""),
        figure(
            "pixels of instances that differ",
            float((instances.masks[:count] != theirs[0].masks[:count]).mean()),
            "",
        ),
        figure(
            "pixels of the panoptic map that differ",
            float((panoptic.segment_map != theirs[1].segment_map).mean()),
            "",
        ),
        figure("pixels of the semantic map that differ", float((semantic != theirs[2]).mean()), ""),
    ]
    return figures, {}


def run_golden_tests(job: Job) -> Measuring:
    """The tests against the authors' golden outputs, and those of the operators, on the device."""
    names = ["test_golden.py", "test_ms_deform_attn.py", "test_window_attention.py"]
    files = [str(path) for name in names for path in (REPOSITORY / "tests").rglob(name)]
    assert len(files) == len(names), files
    options = ["-q", "-o", "addopts=", "-W", "ignore", "-p", "no:cacheprovider"]
    if job.device == "cpu":
        options += ["-k", "test_preprocessing"]
    else:
        options += ["-n", "6"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *files],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    yield  # nothing is timed, so the tests needn't have the device for themselves
    summary = done.stdout.strip().splitlines()[-1:]
    counts: dict[str, int] = dict.fromkeys(("passed", "failed", "error", "skipped"), 0)
    for number, kind in re.findall(r"(\d+) (\w+)", " ".join(summary)):
        counts[kind.removesuffix("s") if kind == "errors" else kind] = int(number)
    return [figure(f"tests {kind}", counts[kind], "") for kind in counts], {
        "output": done.stdout[-6000:]
    }


# Weights that both sides load


def write_weights(job: Job) -> Measuring:
    """Random weights in both formats, written once; rows wait for them."""
    from inputs import save_random_weights

    from m2f_jax import Mask2Former

    folder = job.out / WEIGHTS
    if not (folder / COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        theirs = folder / "huggingface"
        theirs.mkdir(parents=True)
        save_random_weights(job.scale.config, theirs)
        (theirs / COMPLETE).touch()
        Mask2Former.from_pretrained(theirs).save_pretrained(folder)
        (folder / COMPLETE).touch()
    yield
    size = (folder / "model.safetensors").stat().st_size
    return [figure("weights", size / 2**20, "MiB")], {}


# The network


class Part(NamedTuple):
    """The network or a stage of it, compiled."""

    call: Callable[[], Any]
    memory: Any
    seconds: float  # of compiling


def load_parts(
    job: Job, batch: int, size: Size, *, stages: bool = False, form: Callable | None = None
) -> dict[str, Part]:
    """The network and its stages in bfloat16, with the weights in place.

    Args:
        job: the row's.
        batch: images at a time.
        size: of the images.
        stages: the stages by themselves as well.
        form: what computes the attention in windows; by default what the package has.
    """
    import jax
    import jax.numpy as jnp
    from ahead_of_time import abstract_parameters
    from flax import nnx
    from window_forms import patched

    from m2f_jax import Mask2Former
    from m2f_jax.modeling.mask2former import network
    from m2f_jax.modeling.parameters import abstract_model

    config, device = job.scale.config, jax_device(job)
    sharding = jax.sharding.SingleDeviceSharding(device)

    def there(tree: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    images = jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32, sharding=sharding)
    whole = abstract_model(config, "bfloat16")
    functions = {"whole forward": (whole, lambda m, x: network(m, x, all_layers=False), images)}
    if stages:
        low = jax.ShapeDtypeStruct(images.shape, jnp.bfloat16, sharding=sharding)
        features = there(jax.eval_shape(lambda m, x: m(x), whole.backbone, low))
        pyramid = there(jax.eval_shape(lambda m, x: m(x), whole.pixel_decoder, features))
        functions |= {
            "backbone": (whole.backbone, lambda m, x: m(x), low),
            "pixel decoder": (whole.pixel_decoder, lambda m, x: m(x), features),
            "Transformer decoder": (whole.decoder, lambda m, x: m(x), pyramid),
        }
    compiled = {}
    for name, (module, function, inputs) in functions.items():
        graph, parameters = abstract_parameters(module, "bfloat16")
        start = time.perf_counter()
        with patched(form):
            program = (
                jax.jit(
                    lambda parameters, x, graph=graph, function=function: function(
                        nnx.merge(graph, parameters), x
                    )
                )
                .lower(there(parameters), inputs)
                .compile()
            )
        compiled[name] = program, inputs, time.perf_counter() - start
    with jax.default_device(device):
        model = Mask2Former.from_pretrained(job.weights(), "bfloat16")
    modules = {
        "whole forward": model,
        "backbone": model.backbone,
        "pixel decoder": model.pixel_decoder,
        "Transformer decoder": model.decoder,
    }
    rng = np.random.default_rng(0)
    parts = {}
    for name, (program, inputs, seconds) in compiled.items():
        parameters = jax.device_put(nnx.as_pure(nnx.split(modules[name])[1]), device)
        arrays = jax.tree.map(
            lambda x: jax.device_put(
                jnp.asarray(rng.standard_normal(x.shape, np.float32), x.dtype), device
            ),
            inputs,
        )
        call = functools.partial(program, parameters, arrays)
        wait_for_jax(call())
        parts[name] = Part(call, program.memory_analysis(), seconds)
    return parts


def time_parts(parts: Mapping[str, Part], where: str, images: int = 1) -> Figures:
    """A figure in milliseconds for each, and of more than one image also for one."""
    figures = []
    for name, part in parts.items():
        found = timed(f"{name}, {where}", part.call, wait_for_jax)
        figures.append(found)
        if images > 1:
            figures.append(figure(f"{name}, {where}, of one image", found["value"] / images, "ms"))
    temporaries = parts["whole forward"].memory.temp_size_in_bytes
    figures.append(figure(f"temporaries, {where}", temporaries / 2**20, "MiB"))
    figures.append(figure(f"compiling, {where}", parts["whole forward"].seconds, "s"))
    return figures


def measure_forward(job: Job, form: str | None = None) -> Measuring:
    """The forward pass of one image: the package's with its stages, or with one form."""
    from window_forms import forms

    chosen = None if form is None else forms(job.device)[form]
    parts = load_parts(job, 1, job.scale.size, stages=form is None, form=chosen)
    yield
    return time_parts(parts, describe_size(1, job.scale.size)), {}


def measure_best_forward(job: Job) -> Measuring:
    """The forward pass with the fastest form of attention in windows for each map."""
    import window_forms

    rows = json.loads((job.out / "gpu.json").read_text())["rows"]
    best, chosen = {}, {}
    swin = job.scale.config.backbone
    assert isinstance(swin, SwinConfig)
    maps = window_forms.maps_of_stages(swin, job.scale.size)
    for index, shape in enumerate(maps):
        outcome = rows[window_row(index)]
        times = {x["what"]: x["value"] for x in outcome.get("figures", ()) if x["unit"] == "ms"}
        chosen[str(shape)] = min(times, key=times.__getitem__)
        best[shape] = window_forms.forms_of(shape, job.device)[chosen[str(shape)]]
    parts = load_parts(job, 1, job.scale.size, form=window_forms.by_map(best))
    yield
    return time_parts(parts, describe_size(1, job.scale.size)), {"chosen": chosen}


def measure_batches(job: Job) -> Measuring:
    """The forward pass of more images at a time."""
    scale = job.scale
    cases = ((scale.batch, scale.size), (scale.small_batch, scale.small))
    parts = {case: load_parts(job, *case) for case in cases}
    yield
    return [
        line
        for (batch, size), found in parts.items()
        for line in time_parts(found, describe_size(batch, size), batch)
    ], {}


def measure_windows(job: Job, index: int) -> Measuring:
    """Attention in windows alone, on one map: every form and tiling."""
    import jax
    import window_forms

    swin = job.scale.config.backbone
    assert isinstance(swin, SwinConfig)
    shape = window_forms.maps_of_stages(swin, job.scale.size)[index]
    device = jax_device(job)
    with jax.default_device(device):
        inputs = [
            window_forms.draw(shape, window_forms.DTYPE, seed) for seed in range(window_forms.CALLS)
        ]
        want = window_forms.reference(shape, inputs[0])
        runs, failed, errors = {}, {}, {}
        for name, attend in window_forms.forms_of(shape, job.device).items():
            run = jax.jit(lambda inputs, attend=attend: [attend(*arrays) for arrays in inputs])
            try:
                runs[name] = run.lower(inputs).compile()
                first, *_ = runs[name](inputs)
                errors[name] = window_forms.check(f"{name} for {shape}", first, want)
            except Exception as error:  # a tiling that this GPU has no room for, of whatever kind
                if name == "plain":
                    raise
                runs.pop(name, None)
                failed[name] = f"{type(error).__name__}: {error}"[:300]
    yield
    figures = []
    for name, run in runs.items():
        found = timed(name, functools.partial(run, inputs), wait_for_jax)
        for key in ("value", "least", "most"):
            found[key] /= window_forms.CALLS
        figures.append(found)
    return figures, {"failed": failed, "errors": errors}


# The whole path


def measure_path(job: Job) -> Measuring:
    """From a uint8 image to full-size masks or maps on the host, by a Segmenter."""
    import jax
    from inputs import draw_images

    from m2f_jax import ImageProcessor, Mask2Former, Segmenter

    scale, device = job.scale, jax_device(job)
    with jax.default_device(device):
        model = Mask2Former.from_pretrained(job.weights(), "bfloat16")
    processor = ImageProcessor(shortest_edge=min(scale.size), longest_edge=max(scale.size))
    segmenter = Segmenter(model, processor, [device])
    images = [draw_images(1, scale.size)[0]] * 16
    tasks = ("instance", "panoptic", "semantic")
    for task in tasks:
        segmenter(images[0], task)
    yield

    from kernel_times import kernel_times

    def look(found: Any) -> Any:
        return found.masks if hasattr(found, "masks") else found

    figures = []
    uses: dict[str, tuple[Any, Callable]] = {task: (task, lambda x: x) for task in tasks}
    uses["instance, masks as arrays"] = ("instance", look)
    for name, (task, use) in uses.items():
        single = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            use(segmenter(images[0], task))
            single.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        for found in segmenter.stream(images, task):
            use(found)
        stream = 1000 * (time.perf_counter() - start) / len(images)
        spread = {"least": min(single), "most": max(single)}
        figures += [
            figure(f"one image, {name}", statistics.median(single), "ms", **spread),
            figure(f"an image of a stream, {name}", stream, "ms"),
        ]
    stages: dict[str, list[float]] = {"reading": [], "starting": [], "waiting": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        prepared = segmenter.prepare(images[0])
        read = time.perf_counter()
        [pending] = segmenter.submit([prepared], "instance")
        begun = time.perf_counter()
        pending.result()
        times = (read - start, begun - read, time.perf_counter() - begun)
        for name, seconds in zip(stages, times, strict=True):
            stages[name].append(1000 * seconds)
    figures += [
        figure(f"of one image, instance: {name}", statistics.median(ms), "ms")
        for name, ms in stages.items()
    ]
    found = kernel_times(lambda: list(segmenter.stream(images, "instance")), 1)
    figures += [
        figure(f"of an image of a stream, on the device: {name}", ms / len(images), "ms")
        for name, ms in found["ms by program"].items()
    ]
    return figures, {"kernels": found}


# The peer


def peer_settings(job: Job, batch: int, size: Size) -> Any:
    """The settings of inference.py's peers."""
    from peers import Settings

    return Settings(
        config=job.scale.config,
        size=size,
        batch=batch,
        dtype="bfloat16",
        device=job.device,
        tf32=True,
        compiled=False,
        repeats=1,
        threads=os.cpu_count() or 1,
        peers=(),
    )


def measure_transformers(job: Job) -> Measuring:
    """The peer with the same weights, as it is: one image, its stages, batches, the path."""
    import torch
    from inputs import draw_images
    from peers import Transformers

    scale = job.scale
    peer = Transformers(job.weights(), peer_settings(job, 1, scale.size))
    processor = peer.processor()
    rng = np.random.default_rng(0)

    def images(batch: int, size: Size) -> Any:
        return peer.place(rng.standard_normal((batch, *size, 3), np.float32))

    pixel, one = peer.model.model.pixel_level_module, images(1, scale.size)
    with torch.inference_mode():
        features = pixel.encoder(one).feature_maps
        pyramid = pixel.decoder(features, output_hidden_states=True)
    calls = {
        f"whole forward, {describe_size(1, scale.size)}": (lambda: peer.model(pixel_values=one)),
        f"backbone, {describe_size(1, scale.size)}": lambda: pixel.encoder(one),
        f"pixel decoder, {describe_size(1, scale.size)}": lambda: pixel.decoder(
            features, output_hidden_states=False
        ),
        f"Transformer decoder, {describe_size(1, scale.size)}": (
            lambda: peer.model.model.transformer_module(
                multi_scale_features=pyramid.multi_scale_features,
                mask_features=pyramid.mask_features,
                output_hidden_states=True,
            )
        ),
    }
    for batch, size in ((scale.batch, scale.size), (scale.small_batch, scale.small)):
        several = images(batch, size)
        calls[f"whole forward, {describe_size(batch, size)}"] = functools.partial(
            peer.model, pixel_values=several
        )
    [image] = draw_images(1, scale.size)

    def path() -> Any:
        batch = processor(images=image, return_tensors="pt")
        output = peer.model(pixel_values=batch["pixel_values"].to(job.device, peer.dtype))
        output.class_queries_logits = output.class_queries_logits.float()
        output.masks_queries_logits = output.masks_queries_logits.float()
        [found] = processor.post_process_instance_segmentation(
            output, threshold=0.0, target_sizes=[image.shape[:2]], return_binary_maps=True
        )
        return found["segmentation"].cpu().numpy()

    calls["image to instances"] = path
    yield
    with torch.inference_mode():
        figures = [timed(name, call, lambda _: peer.wait()) for name, call in calls.items()]
    return figures, {}


def measure_compiled_transformers(job: Job) -> Measuring:
    """The peer with the same weights, through torch.compile."""
    import torch
    from peers import Transformers

    scale = job.scale
    peer = Transformers(job.weights(), peer_settings(job, 1, scale.size))
    image = peer.place(np.random.default_rng(0).standard_normal((1, *scale.size, 3), np.float32))
    model = torch.compile(peer.model) if job.device == "cuda" else peer.model
    start = time.perf_counter()
    with torch.inference_mode():
        model(pixel_values=image)
        peer.wait()
    first = time.perf_counter() - start
    yield
    with torch.inference_mode():
        found = timed(
            f"whole forward, {describe_size(1, scale.size)}",
            lambda: model(pixel_values=image),
            lambda _: peer.wait(),
        )
    return [found, figure("first call", first, "s")], {}


# Training


def training_settings(job: Job) -> Any:
    """The settings of training.py's sides."""
    import dataclasses

    from trainers import Settings

    from m2f_jax.training import LossConfig, OptimizerConfig

    scale = job.scale
    loss = LossConfig() if job.device == "cuda" else LossConfig(num_points=64)
    return Settings(
        size=scale.train_size,
        batch=scale.train_batch,
        steps=10 * scale.train_steps,  # of the schedule, whose end isn't reached
        dtype="bfloat16",
        device=job.device,
        tf32=True,
        threads=os.cpu_count() or 1,
        loss=dataclasses.asdict(loss),
        optimizer=dataclasses.asdict(OptimizerConfig()),
    )


def measure_training(job: Job, side: str) -> Measuring:
    """Whole training steps, as in training.py, of one side."""
    from trainers import SIDES, draw_batch

    settings = training_settings(job)
    classes = job.scale.config.num_classes
    trainer = SIDES[side](job.our_weights(), settings)
    batches = [trainer.place(draw_batch(settings, classes, step)) for step in range(4)]
    start = time.perf_counter()
    trainer.train_on(batches[0])
    first = time.perf_counter() - start
    yield
    steps, seconds, losses = job.scale.train_steps, [], []
    for step in range(steps):
        start = time.perf_counter()
        losses.append(trainer.train_on(batches[step % len(batches)]))
        seconds.append(1000 * (time.perf_counter() - start))
    what = f"a step of {describe_size(settings.batch, settings.size)}"
    spread = {"least": min(seconds), "most": max(seconds)}
    start = time.perf_counter()
    last = trainer.begin(batches[0])
    for step in range(1, steps):
        last = trainer.begin(batches[step % len(batches)])
    trainer.finish(last)
    running = 1000 * (time.perf_counter() - start) / steps
    figures = [
        figure(f"{what}, waited for", statistics.median(seconds), "ms", **spread),
        figure(f"{what}, one after another", running, "ms"),
        figure("first step", first, "s"),
    ]
    if job.device == "cuda":
        figures.append(figure("peak memory", trainer.peak_device_bytes() / 2**20, "MiB"))
    return figures, {"losses": losses}


# The operators


def measure_operator(job: Job) -> Measuring:
    """The deformable attention of one layer alone, forward and with its gradient, both sides."""
    import deformable_attention as operator

    size = job.scale.size
    settings = operator.Settings(size, 8, 4, "bfloat16", job.device, 1, 1, ("transformers",))
    inputs = operator.draw(settings)
    ours = operator.Ours(settings, inputs)
    theirs = operator.OnTorch(operator.transformers_operator(settings), settings, inputs)
    calls = {
        (who, what): getattr(side, method)("bfloat16")
        for who, side in (("ours", ours), ("transformers", theirs))
        for what, method in (("forward", "forward"), ("forward and gradient", "both"))
    }
    agreement = operator.compare({operator.OURS: ours, "transformers": theirs}, "float32")
    for call in calls.values():
        call()
    yield
    return [timed(f"{what}, {who}", call, lambda _: None) for (who, what), call in calls.items()], {
        "agreement": agreement
    }


def measure_matching(job: Job) -> Measuring:
    """The matching of a training step, ours beside optax's."""
    import jax
    import jax.numpy as jnp
    import matching
    import optax

    from m2f_jax.ops.assignment import solve

    device = jax_device(job)
    shapes = matching.SHAPES if job.device == "cuda" else ((4, 8),)
    ours = jax.jit(solve)
    theirs = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    cases = {}
    for shape in shapes:
        rng = np.random.default_rng(0)
        for kind, costs in matching.draw_costs(rng, (job.scale.problems, *shape)):
            arrays = jax.device_put(jnp.asarray(costs, jnp.float32), device)
            valid = jax.device_put(jnp.ones(costs.shape[:2], bool), device)
            name = "{}, {} x {}".format(kind, *shape)
            cases[name, "ours"] = functools.partial(ours, arrays, valid)
            cases[name, "optax"] = functools.partial(theirs, arrays)
    for call in cases.values():
        wait_for_jax(call())
    yield
    return [timed(f"{name}, {who}", call, wait_for_jax) for (name, who), call in cases.items()], {}


# Where the time goes


def profile_forward(job: Job) -> Measuring:
    """The kernels of the forward pass of one image, by time."""
    from kernel_times import kernel_times

    part = load_parts(job, 1, job.scale.size)["whole forward"]
    yield
    return [], {"kernels": kernel_times(lambda: wait_for_jax(part.call()), 3)}


def profile_training(job: Job) -> Measuring:
    """The kernels of a training step, by time."""
    from kernel_times import kernel_times
    from trainers import SIDES, draw_batch

    settings = training_settings(job)
    trainer = SIDES[OURS](job.our_weights(), settings)
    batch = trainer.place(draw_batch(settings, job.scale.config.num_classes, 0))
    trainer.train_on(batch)
    yield
    return [], {"kernels": kernel_times(lambda: trainer.train_on(batch), 3)}


# The first call


def measure_first_call(job: Job) -> Measuring:
    """A Segmenter's first image in a fresh process, with nothing compiled, and once more."""
    folder = job.weights()
    yield
    figures = []
    cache = job.out / f"first-call-{os.getpid()}"
    for name in ("nothing compiled", "from the persistent cache"):
        code = FIRST_CALL.format(folder=str(folder), size=job.scale.size)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        loaded, first = json.loads(done.stdout.splitlines()[-1])
        figures += [
            figure(f"import and load, {name}", loaded, "s"),
            figure(f"first image, {name}", first, "s"),
        ]
    shutil.rmtree(cache, ignore_errors=True)
    return figures, {}


FIRST_CALL = """
import json, time
start = time.perf_counter()
import numpy as np
from m2f_jax import ImageProcessor, Mask2Former, Segmenter
size = {size}
model = Mask2Former.from_pretrained({folder!r}, "bfloat16")
segmenter = Segmenter(model, ImageProcessor(shortest_edge=min(size), longest_edge=max(size)))
loaded = time.perf_counter()
segmenter(np.zeros((*size, 3), np.uint8), "instance").scores
print(json.dumps([loaded - start, time.perf_counter() - loaded]))
"""


# The model in the package


def train_streets(job: Job) -> Measuring:
    """Trains the model in the package further, in the time that is left."""
    data, out = job.out / "streets", job.out / "streets-training"
    scale = job.scale
    for split, seed, count in (
        ("train", 1, scale.streets),
        ("val", 2, max(2, scale.streets // 16)),
    ):
        run_m2f(
            *("streets", str(data), "--images", str(count), "--size", scale.street_size),
            *("--seed", str(seed), "--split", split),
        )
    yield
    toy = job.device == "cpu"
    workers = "0" if toy else str(max(1, (os.cpu_count() or 2) - 1))
    seconds = max(20.0, job.seconds_left - 45)
    steps = 2 if toy else int(seconds * STREETS_STEPS_A_SECOND)
    run_m2f(
        *("train", "streets", "--data", str(data), "--out", str(out), "--from", "streets"),
        *("--steps", str(steps), "--batch-size", "2" if toy else "16", "--workers", workers),
        *("--threads", "2", "--save-every", "1000000"),
        *("--evaluate-every", "1000000", "--log-every", "100" if not toy else "1"),
        *([] if toy else ["--size", "256x512", "--learning-rate", "3e-4"]),
    )
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    scores = {key: value for line in log for key, value in line.items() if key == "PQ"}
    return [figure("steps", steps, ""), figure("PQ on val", scores.get("PQ", 0.0), "%")], {
        "log": log[-5:]
    }


STREETS_STEPS_A_SECOND = 20  # of 16 crops, on an H100; the schedule needs to know beforehand


def run_m2f(*arguments: str):
    """The command line, in a process of its own; what it says goes to the log."""
    code = "import sys; from m2f_jax.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-P", "-c", code, *arguments], check=True, stdout=2)


# All rows, the most valuable first


def list_rows() -> dict[str, Row]:
    """The table."""
    rows = {
        WEIGHTS: Row("random weights for both sides", write_weights),
        "device": Row("what the device can do at most", measure_device),
        "exact": Row("operators and Segmenter beside a CPU's results", check_against_cpu, 60),
        "forward": Row("one image and its stages", measure_forward),
    }
    for index in range(WINDOWS):
        rows[window_row(index)] = Row(
            "attention in windows, every form and tiling",
            functools.partial(measure_windows, index=index),
        )
    windows = tuple(map(window_row, range(WINDOWS)))
    return rows | {
        "forward, cuDNN": Row("with cuDNN's attention", forward_with("cuDNN")),
        "forward, plain": Row("with attention in windows in XLA alone", forward_with("plain")),
        "forward, best": Row("each map with its fastest form", measure_best_forward, after=windows),
        "path": Row("uint8 image to instances and maps on the host", measure_path, 40),
        "transformers": Row("the peer, as it is", measure_transformers, 60),
        "transformers, compiled": Row(
            "the peer, by torch.compile", measure_compiled_transformers, slow_to_start=True
        ),
        "training": Row(
            "a training step", functools.partial(measure_training, side=OURS), slow_to_start=True
        ),
        "training, transformers": Row(
            "the peer's training step", functools.partial(measure_training, side=THEIRS), 60
        ),
        "batches": Row("many images at a time", measure_batches),
        "operator": Row("deformable attention alone, both sides", measure_operator),
        "matching": Row("bipartite matching, ours and optax's", measure_matching, 60),
        "golden": Row("the authors' golden outputs, on the device", run_golden_tests, 120),
        "forward, profile": Row(
            "kernels of the forward pass", profile_forward, environment=NO_GRAPHS
        ),
        "training, profile": Row(
            "kernels of a training step",
            profile_training,
            slow_to_start=True,
            environment=NO_GRAPHS,
        ),
        "first call": Row("from nothing, and from the cache", measure_first_call, 240, alone=True),
        "streets": Row("the model in the package, trained further", train_streets, 24 * 3600),
    }


WINDOWS = 8  # maps: four stages, not shifted and shifted
NO_GRAPHS = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer="}  # else kernels have no names


def window_row(index: int) -> str:
    """The name of a map's row, as `maps_of_stages` lists them."""
    return f"windows, stage {index // 2 + 1}" + ", shifted" * (index % 2)


def forward_with(form: str) -> Callable[[Job], Measuring]:
    """The forward pass with this form of attention in windows."""
    return functools.partial(measure_forward, form=form)


ROWS: Mapping[str, Row] = list_rows()
