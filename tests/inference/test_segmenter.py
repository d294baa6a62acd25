"""The Segmenter does what processor and model do, in order, and compiles no more than it must."""

import dataclasses
import queue
import re
import threading
import types

import jax
import numpy as np
import pytest
from flax import nnx

from m2f_jax import Mask2Former
from m2f_jax.inference import postprocess
from m2f_jax.inference.prefetching import AHEAD, QUEUED
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.programs import network
from m2f_jax.inference.programs.compiling import JittedProgram
from m2f_jax.inference.programs.devices import can_keep
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.modeling.parameters import abstract_model, fill, parameters
from m2f_jax.pretrained import load
from tests.toys import registered

PROCESSOR = ImageProcessor(
    thing_classes=(1,), object_mask_threshold=0.2, overlap_threshold=0.0, longest_edge=64
)
TASKS = ("instance", "panoptic", "semantic")
NETWORK = ("features", "pyramid", "predictions")


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter(micro):
    return Segmenter(micro, PROCESSOR)


def same(ours, theirs):
    if isinstance(ours, np.ndarray):
        np.testing.assert_array_equal(ours, theirs, strict=True)
        return
    for field in dataclasses.fields(ours):
        x, y = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name in ("scores", "segments"):
            x, y = ([getattr(s, "score", s) for s in values] for values in (x, y))
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(x, y, strict=True)


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_opening_a_model_and_a_first_call_compile_each_program_once(micro, tmp_path, caplog, task):
    micro.save_pretrained(tmp_path)
    jax.clear_caches()
    found = []
    messages = messages_of(
        caplog,
        lambda: found.append(Segmenter(load(tmp_path).model, PROCESSOR)(image(50, 80), task)),
    )
    assert compiled(messages) == sorted(["resize", *NETWORK, task])
    assert len(found[0]) > 0


@pytest.mark.parametrize("kept", [False, True])
def test_all_programs_of_an_image_are_compiled_at_the_same_time(
    segmenter, micro, tmp_path, monkeypatch, kept
):
    picture = image(50, 80)
    expected = segmenter(picture)
    together, threads = threading.Barrier(len(("resize", *NETWORK, "instance")), timeout=60), set()
    compile_one = jax.stages.Lowered.compile

    def compile_with_others(lowered):
        threads.add(threading.current_thread())
        together.wait()  # for all others to begin
        return compile_one(lowered)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_with_others)
    ours = Segmenter(micro, PROCESSOR, programs=tmp_path if kept else None)
    for _ in range(2):
        same(ours(picture), expected)
    assert len(threads) == together.parties


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("target", [None, (20, 100)])
def test_equals_processor_and_model(segmenter, micro, task, target):
    picture = image(50, 80)  # resized, and padded
    batch = PROCESSOR(picture)
    assert batch.sizes[0].padded != batch.sizes[0].resized != batch.sizes[0].original
    targets = None if target is None else [target]
    [want] = getattr(PROCESSOR, f"post_process_{task}_segmentation")(
        micro(batch.pixel_values), batch.sizes, targets
    )
    ours = segmenter(picture, task, target_size=target)
    same(ours, want)
    if task != "semantic":
        assert len(ours) > 0


def no_network(*_):
    raise AssertionError("the network was traced")


@pytest.mark.parametrize(
    ("small", "programs"), [(network.SMALL, NETWORK), (64 * 64 - 1, ("features", "decoded"))]
)
def test_programs_that_were_kept_are_not_traced(
    segmenter, micro, tmp_path, monkeypatch, caplog, small, programs
):
    monkeypatch.setattr(network, "SMALL", small)
    picture, calls = image(50, 80), (("instance", {"top_k": 7}), ("panoptic", {}), ("semantic", {}))
    for run in range(2):
        ours = Segmenter(micro, PROCESSOR, programs=tmp_path)
        for task, options in calls:
            same(ours(picture, task, **options), segmenter(picture, task, **options))
        [pixels] = ours.submit([ours.prepare(picture)], "semantic", reduce=lambda found, _: found)
        assert pixels.result().shape == (128, 128)
        kept = sorted(path.name.partition("-")[0] for path in tmp_path.iterdir())
        assert kept == sorted(["resize", *programs, *TASKS]), run
        monkeypatch.setattr(network, "features_of", no_network)
        monkeypatch.setattr(postprocess, "instances", no_network)
    with pytest.raises(AssertionError, match="traced"):
        Segmenter(micro, dataclasses.replace(PROCESSOR, std=(50.0, 50.0, 50.0)), programs=tmp_path)(
            picture
        )
    assert not caplog.text


def test_another_model_of_the_same_shapes_has_programs_of_its_own(micro, tmp_path, monkeypatch):
    picture = image(64, 64)
    Segmenter(micro, PROCESSOR, programs=tmp_path)(picture)
    monkeypatch.setattr(network, "features_of", no_network)
    decoder = dataclasses.replace(micro.config.decoder, num_heads=4)
    config = dataclasses.replace(micro.config, decoder=decoder)
    other = fill(
        abstract_model(config), {name: value[...] for name, value in parameters(micro).items()}
    )
    with pytest.raises(AssertionError, match="traced"):
        Segmenter(other, PROCESSOR, programs=tmp_path)(picture)


def test_programs_of_others_are_not_kept(micro):
    cpu, gpu = (types.SimpleNamespace(platform=platform) for platform in ("cpu", "cuda"))
    assert can_keep(micro, [cpu])
    assert not can_keep(micro, [gpu])
    assert not can_keep(micro, [cpu, cpu])
    with registered() as parts:
        for part, config in parts.items():
            foreign = abstract_model(dataclasses.replace(micro.config, **{part: config}))
            assert not can_keep(foreign, [cpu])


def test_top_k_and_threshold(segmenter):
    picture = image(64, 64)
    everything = segmenter(picture)
    assert len(segmenter(picture, top_k=3)) <= 3
    middle = float(np.median(everything.scores))
    same(segmenter(picture, threshold=middle), everything.select(everything.scores >= middle))


def test_the_task_is_the_models_unless_told(segmenter, monkeypatch):
    picture = image(64, 64)
    same(segmenter(picture), segmenter(picture, "instance"))
    monkeypatch.setattr(segmenter, "config", dataclasses.replace(segmenter.config, task="semantic"))
    same(segmenter(picture), segmenter(picture, "semantic"))


def test_unknown_tasks_are_refused(segmenter):
    with pytest.raises((ValueError, TypeError), match="'boxes'"):  # types are checked in tests
        segmenter(image(64, 64), "boxes")


def test_images_that_cannot_be_read_are_refused_by_name(segmenter, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png is missing"):
        segmenter(tmp_path / "none.png")


def test_stream_keeps_the_order_and_reads_no_further_than_it_must(segmenter):
    pictures = [image(40 + i, 64 - i, seed=i) for i in range(20)]
    read = []

    def source():
        for i, picture in enumerate(pictures):
            read.append(i)
            yield picture

    for i, ours in enumerate(segmenter.stream(source(), "semantic")):
        assert len(read) <= i + AHEAD + 2 * QUEUED + 1  # before, on and behind the device
        same(ours, segmenter(pictures[i], "semantic"))
    assert read == list(range(20))
    assert list(segmenter.stream([])) == []


def test_stream_ends_in_the_error_of_an_image(segmenter, tmp_path):
    stream = segmenter.stream([image(64, 64), tmp_path / "none.png", image(64, 64)])
    assert len(next(stream)) > 0
    with pytest.raises(FileNotFoundError, match=r"none\.png is missing"):
        next(stream)


@pytest.mark.parametrize("task", TASKS)
def test_batches(segmenter, micro, task):
    """Images of one size share a batch, others don't; the last one isn't full."""
    sizes = [(50, 80), (50, 80), (50, 80), (64, 64), (50, 80)]
    pictures = [image(*size, seed=i) for i, size in enumerate(sizes)]
    in_batches = Segmenter(micro, PROCESSOR, batch_size=2)
    assert in_batches.capacity == 2
    for picture, ours in zip(pictures, in_batches.stream(pictures, task), strict=True):
        same(ours, segmenter(picture, task))
    same(in_batches(pictures[0], task), segmenter(pictures[0], task))


def test_an_empty_batch_is_refused(micro):
    with pytest.raises(ValueError, match="batch_size is 1 or more, not 0"):
        Segmenter(micro, PROCESSOR, batch_size=0)


def test_stream_passes_its_options_on(segmenter):
    [ours] = segmenter.stream([image(64, 64)], "instance", top_k=2, threshold=0.0)
    same(ours, segmenter(image(64, 64), top_k=2, threshold=0.0))


def messages_of(caplog, work):
    """What JAX logs of compilations while `work` is done, in all threads."""
    caplog.clear()
    jax.config.update("jax_log_compiles", True)
    try:
        work()
    finally:
        jax.config.update("jax_log_compiles", False)
    return [record.getMessage() for record in caplog.records]


def compiled(messages):
    """The names of programs that XLA compiled, or read, by `messages_of`."""
    found = (re.match(r"Finished XLA compilation of jit\((\w+)\)", m) for m in messages)
    return sorted(m[1] for m in found if m)


def test_programs_are_compiled_before_there_are_parameters(segmenter, micro, monkeypatch):
    picture = image(50, 80)
    expected = segmenter(picture, top_k=7)
    lowered, lower = queue.Queue(), jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda program: lowered.put(program) or lower(program)
    )
    ours = Segmenter(abstract_model(micro.config), PROCESSOR)
    ours.compile_ahead(lambda: ours.prepare("no such image"))
    ours.compile_ahead(lambda: ours.prepare(picture), top_k=7)
    for _ in ("resize", *NETWORK, "instance"):
        lowered.get(timeout=60)
    ours.set_parameters(micro)
    same(ours(picture, top_k=7), expected)
    assert lowered.empty()


@pytest.mark.parametrize(("dtype", "whole"), [("float32", False), ("bfloat16", True)])
def test_the_network_is_halved_where_results_are_those_of_the_whole(micro, dtype, whole):
    values = {name: value[...] for name, value in parameters(micro).items()}
    segmenter = Segmenter(fill(abstract_model(micro.config, dtype), values), PROCESSOR)
    assert isinstance(segmenter._predict, JittedProgram) == whole


class Turned(Mask2Former):
    def __call__(self, pixel_values, *, all_layers=False):
        found = super().__call__(pixel_values, all_layers=all_layers)
        return found._replace(mask_logits=-found.mask_logits)


def test_a_model_that_runs_in_its_own_way_does(micro, segmenter):
    values = {name: value[...] for name, value in parameters(micro).items()}
    own = fill(nnx.eval_shape(lambda: Turned(micro.config, rngs=nnx.Rngs(0))), values)
    picture = image(64, 64)
    plain, turned = (x(picture, "semantic") for x in (segmenter, Segmenter(own, PROCESSOR)))
    assert (plain != turned).any()


def test_other_parameters_need_no_compilation(micro, caplog):
    picture = image(64, 64)
    others = {name: 1.01 * parameter[...] for name, parameter in parameters(micro).items()}
    other = fill(abstract_model(micro.config), others)
    changing = Segmenter(micro, PROCESSOR)
    before = changing(picture, "semantic")
    changing.set_parameters(other)
    found = []
    messages = messages_of(caplog, lambda: found.append(changing(picture, "semantic")))
    assert not compiled(messages)
    same(found[0], Segmenter(other, PROCESSOR)(picture, "semantic"))
    changing.set_parameters(micro)
    same(changing(picture, "semantic"), before)


def test_parameters_of_another_model_are_refused(micro, tiny):
    with pytest.raises(ValueError, match="another architecture"):
        Segmenter(micro, PROCESSOR).set_parameters(tiny.model)


def test_one_compilation_per_padded_size_and_canvas(segmenter, caplog):
    def compilations(*pictures, target=None):
        def work():
            for picture in pictures:
                for task in TASKS:
                    segmenter(picture, task, target_size=target)

        messages = messages_of(caplog, work)
        return [name for name in compiled(messages) if name in ("resize", *NETWORK, *TASKS)]

    compilations(image(64, 64))
    assert compilations(image(33, 64), image(64, 50)) == []
    assert compilations(image(128, 128), image(100, 128)) == ["resize"]  # of more samples
    assert compilations(image(64, 64), target=(64, 129)) == list(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_a_changed_processor_takes_effect_as_a_whole(micro, task):
    picture = image(50, 80)
    changed = dataclasses.replace(
        PROCESSOR,
        longest_edge=96,
        mean=(100.0, 110.0, 120.0),
        std=(50.0, 60.0, 70.0),
        thing_classes=(0, 1),
        object_mask_threshold=0.0,
        overlap_threshold=0.5,
        resize_scores=True,
    )
    segmenter = Segmenter(micro, PROCESSOR)
    [prepared] = [segmenter.prepare(picture)]
    before = segmenter(picture, task)
    [pending] = segmenter.submit([prepared], task)
    segmenter.processor = changed
    assert segmenter.processor == changed
    same(pending.result(), before)
    same(segmenter(picture, task), Segmenter(micro, changed)(picture, task))


def test_more_instances_than_the_authors_keep(segmenter):
    everything = segmenter(image(64, 64), "instance", top_k=100)
    more = segmenter(image(64, 64), "instance", top_k=10_000)
    assert len(more) >= len(everything)
