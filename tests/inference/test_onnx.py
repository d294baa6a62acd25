"""ONNX files compute what the Segmenter computes, in both runtimes, and odd ones are refused."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.inference.export.onnx import writing
from m2f_jax.inference.export.onnx.running import OPEN, OnnxSegmenter
from m2f_jax.inference.export.onnx.writing import export_onnx, write
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.structures import Predictions
from tests import test_golden, test_golden_maskformer
from tests.conftest import close, load_golden
from tests.inference.test_export import PROCESSOR, SIZE, TASKS, picture, same

RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def segmenter(micro):
    return Segmenter(micro, PROCESSOR)


def written(segmenter, folder, **options):
    """ONNX files in the folder, by task."""
    for task in TASKS:
        export_onnx(segmenter, folder / f"{task}.onnx", SIZE, task, **options)
        onnx.checker.check_model(str(folder / f"{task}.onnx"), full_check=True)
    return {task: folder / f"{task}.onnx" for task in TASKS}


@pytest.fixture(scope="module")
def files(segmenter, tmp_path_factory):
    """One ONNX file per task."""
    return written(segmenter, tmp_path_factory.mktemp("onnx"), license="apache-2.0")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("task", TASKS)
def test_equals_the_segmenter(segmenter, files, task, runtime):
    opened = OnnxSegmenter.load(files[task], runtime)
    assert opened.header.labels == segmenter.config.labels
    assert opened.header.license == "apache-2.0"
    same(opened(picture()), segmenter(picture(), task))


@pytest.fixture(scope="module")
def of_any_number(segmenter, tmp_path_factory):
    """One ONNX file per task, for any number of images."""
    return written(segmenter, tmp_path_factory.mktemp("onnx"), batch="dynamic")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_images(segmenter, of_any_number, task, runtime):
    opened = OnnxSegmenter.load(of_any_number[task], runtime, batch_size=5)
    assert opened.header.dynamic_batch
    assert opened.capacity == 5
    images = [picture(), *(255 - picture()[::-1], picture()[:, ::-1], picture()[::-1])]
    wanted = [segmenter(image, task) for image in images]
    for some in ([0], [1, 0], [2, 0, 3], [3, 2, 1, 0, 0]):
        pending = opened.submit([opened.prepare(images[i]) for i in some])
        for i, handle in zip(some, pending, strict=True):
            same(handle.result(), wanted[i])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_thresholds_are_chosen_when_it_runs(segmenter, files, runtime):
    opened = OnnxSegmenter.load(files["instance"], runtime)
    scores = segmenter(picture()).scores
    middle = float(scores[1:3].mean())  # between two of them
    assert scores[1] > middle > scores[2]
    same(opened(picture(), threshold=middle), segmenter(picture(), threshold=middle))


def test_semantic_only_models(micro, tmp_path):
    segmenter = Segmenter(micro, ImageProcessor(resize_scores=True))
    export_onnx(segmenter, tmp_path / "x.onnx", (64, 64), "semantic")
    image = picture((64, 64))
    want = segmenter(image, "semantic")
    for runtime in RUNTIMES:
        same(OnnxSegmenter.load(tmp_path / "x.onnx", runtime)(image), want)


def test_the_network_alone(micro, segmenter, tmp_path):
    path, fixed = tmp_path / "network.onnx", tmp_path / "fixed.onnx"
    export_onnx(segmenter, path, (32, 64), network_only=True, batch="dynamic")
    export_onnx(segmenter, fixed, (32, 64), network_only=True, batch=2)
    pixels = np.random.default_rng(0).normal(size=(3, 32, 64, 3)).astype(np.float32)
    want: Predictions = micro(pixels)
    other: Predictions = micro(np.nextafter(pixels, np.float32(np.inf)))
    names = "class_logits", "mask_logits"
    wanted = {name: np.asarray(getattr(want, name)) for name in names}
    # In float32 nothing is nearer than what the last bit of the pixels changes: some 1e-5 and 1e-4.
    bits = {name: abs(wanted[name] - np.asarray(getattr(other, name))).max() for name in names}
    assert bits["class_logits"] < 4e-5
    assert bits["mask_logits"] < 4e-4
    for runtime in RUNTIMES:
        for file, counts in ((path, (1, 2, 3)), (fixed, (2,))):
            run = OPEN[runtime](file, "float32", names)
            for n in counts:
                found = run({"pixel_values": pixels[:n]})
                for name in names:
                    close(found[name], wanted[name][:n], 8 * bits[name])
    with pytest.raises(ValueError, match=r"batch is 2; it is 1 or dynamic, and for the network"):
        export_onnx(segmenter, tmp_path / "x.onnx", SIZE, batch=2)
    with pytest.raises(ValueError, match=r"network\.onnx is the network alone \(--network-only\)"):
        OnnxSegmenter.load(path)


@pytest.mark.parametrize(
    ("name", "tolerances", "batch"),
    [
        ("tiny_w7_odd", (test_golden.CLASS_LOGITS, test_golden.MASK_LOGITS), 1),
        (
            "maskformer_r50_fpn",
            test_golden_maskformer.TOLERANCES["maskformer_r50_fpn"][2:],
            "dynamic",
        ),
    ],
)
def test_the_authors_logits(name, tolerances, batch, tmp_path):
    golden = load_golden(name)
    images = np.moveaxis(golden.network["pixel_values"], 1, -1)
    path = tmp_path / "network.onnx"
    segmenter = Segmenter(golden.model, golden.processor)
    export_onnx(segmenter, path, images.shape[1:3], network_only=True, batch=batch)
    session = onnxruntime.InferenceSession(path)
    outputs = ["class_logits", "mask_logits"]
    found = session.run(outputs, {"pixel_values": np.ascontiguousarray(images)})
    for output, ours, tolerance in zip(outputs, found, tolerances, strict=True):
        close(ours, golden.network[output][-1], tolerance)


def test_names_are_those_of_the_network(files):
    graph = onnx.load(files["semantic"]).graph
    assert any(x.name == "decoder.heads.class_head.kernel" for x in graph.initializer)
    for part in ("backbone/", "pixel_decoder/", "decoder/"):
        assert any(x.name.startswith(part) for x in graph.node)
    assert len({x.name for x in graph.node}) == len(graph.node)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_empty_takes_no_room(files, task):
    for x in onnx.load(files[task]).graph.initializer:
        array = onnx.numpy_helper.to_array(x)
        assert array.size < 4096 or array.min() < array.max(), x.name


def test_the_command_line(files, tmp_path, capsys, segmenter):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    arguments = [str(tmp_path / "a.png"), "--model", str(files["panoptic"])]
    for runtime in RUNTIMES:
        out = tmp_path / runtime
        assert main(["predict", *arguments, "--out", str(out), "--runtime", runtime]) == 0
        with Image.open(out / "maps" / "a.png") as png:
            want = segmenter(picture(), "panoptic").to_rgb()
            np.testing.assert_array_equal(np.asarray(png), want)
    capsys.readouterr()
    for more, message in (
        (["--task", "semantic"], "--task was settled when the model was exported, panoptic"),
        (["--dtype", "bfloat16"], "onnxruntime computes in float32, not bfloat16; take openvino"),
        (["--top-k", "3"], "--top-k was settled"),
        (["--batch-size", "2"], "panoptic.onnx takes one image at a time; export the model again"),
    ):
        assert main(["predict", *arguments, "--out", str(tmp_path / "no"), *more]) == 1
        assert message in capsys.readouterr().err
    model = ["export", "streets", str(tmp_path / "x.onnx"), "--size", "32x64"]
    for more, message in (
        (["--platforms", "cpu"], "--platforms is for files other than .onnx"),
        (["--dtype", "bfloat16"], "--dtype is for files other than .onnx"),
        (["--batch", "2"], "--batch N is for the network alone; add --network-only"),
        (["--batch", "any"], "--batch must be a number from 1 to 4096, or dynamic; got 'any'"),
        (["--batch", "0"], "--batch must be a number from 1 to 4096, or dynamic; got '0'"),
    ):
        assert main([*model, *more]) == 1
        assert message in capsys.readouterr().err
    other = ["export", "streets", str(tmp_path / "x.m2f"), "--size", "32x64", "--network-only"]
    assert main(other) == 1
    assert "--network-only is for files that end with .onnx" in capsys.readouterr().err
    predict = ["predict", str(tmp_path / "a.png"), "--runtime", "openvino"]
    assert main([*predict, "--out", str(tmp_path / "no")]) == 1
    assert "--runtime is for files that end with .onnx, not streets" in capsys.readouterr().err


def test_the_last_batch_is_smaller(of_any_number, tmp_path, segmenter):
    images = {"a.png": picture(), "b.png": picture()[::-1], "c.png": picture()[:, ::-1]}
    for name, image in images.items():
        Image.fromarray(image).save(tmp_path / name)
    out, model = tmp_path / "out", str(of_any_number["panoptic"])
    files = [str(tmp_path / name) for name in images]
    assert main(["predict", *files, "--model", model, "--out", str(out), "--batch-size", "2"]) == 0
    for name, image in images.items():
        with Image.open(out / "maps" / name) as png:
            want = segmenter(image, "panoptic").to_rgb()
            np.testing.assert_array_equal(np.asarray(png), want)


def test_parts_that_must_know_the_number_of_images(segmenter, tmp_path, monkeypatch):
    original = writing.network

    def network(model, pixel_values, **options):
        return original(model, pixel_values + len(pixel_values), **options)

    monkeypatch.setattr(writing, "network", network)
    with pytest.raises(ValueError, match=r"x\.onnx: .* for any number of images \('_DimExpr' obj"):
        export_onnx(segmenter, tmp_path / "x.onnx", (32, 64), network_only=True, batch="dynamic")
    assert not any(tmp_path.iterdir())


def changed(files, folder, change):
    """One of the ONNX files after a change of its message."""
    model = onnx.load(files["semantic"])
    change(model)
    write(folder / "copy.onnx", model)
    return folder / "copy.onnx"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", 99, r"metadata\.m2f_jax isn't of format 1; upgrade"),
        ("task", "banana", r"metadata\.m2f_jax\.task has the value 'banana'"),
        ("task", "panoptic", r"the outputs are class_map, and those of panoptic are"),
        ("size", [50, 81], r"the input image has the shape \[50, 80, 3\], and by its header"),
        ("size", [0, 80], r"size must be from 1 to 65536"),
        ("dynamic_batch", True, r"the inputs are image, and those of semantic are images;"),
        ("dynamic_batch", 1, r"metadata\.m2f_jax\.dynamic_batch has the value 1; expected bool"),
        ("labels", [], r"labels is empty"),
        ("labels", [{"id": 1}], r"metadata\.m2f_jax\.labels\[0\] lacks the field"),
        ("top_k", 1e400, r"metadata\.m2f_jax\.top_k has the value inf"),
        ("overlap_threshold", 2, r"overlap_threshold must be from 0 to 1"),
        ("more", 1, r"metadata\.m2f_jax has no field more"),
    ],
)
def test_headers_that_make_no_sense(files, tmp_path, field, value, message):
    def change(model):
        [entry] = model.metadata_props
        entry.value = json.dumps(json.loads(entry.value) | {field: value})

    with pytest.raises(ValueError, match=rf"copy\.onnx:? .*{message}"):
        OnnxSegmenter.load(changed(files, tmp_path, change))


def test_files_for_any_number_that_are_for_one(of_any_number, tmp_path):
    def change(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(
        ValueError, match=r"images has the shape \[1, 50, 80, 3\], .* \['N', 50, 80"
    ):
        OnnxSegmenter.load(changed(of_any_number, tmp_path, change))


def outside(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.metadata_props.pop(), r"has 0 entries m2f_jax in its metadata"),
        (lambda m: m.opset_import.add(domain="evil", version=1), r"needs operators of 'evil'"),
        (lambda m: m.functions.add(name="f"), r"defines functions of its own"),
        (outside, r"lie in '\.\./\.\./secret' instead of copy\.onnx\.data"),
        (lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"), r"has the shape \[\]"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Toast"), r"onnxruntime can't read it"),
    ],
)
def test_files_of_others(files, tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"copy\.onnx:? .*{message}"):
        OnnxSegmenter.load(changed(files, tmp_path, change))


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (b"class_map", r"the outputs are .xfflass_map, and those of semantic are class_map"),
        (b"strange", r"needs operators of '.*.xfftrange'"),
    ],
)
def test_names_that_are_not_utf_8(files, tmp_path, there, message):
    path = changed(files, tmp_path, lambda m: m.opset_import.add(domain="strange", version=1))
    content = path.read_bytes()
    if there == b"class_map":
        content = content.replace(b"strange", b"ai.onnx")
    path.write_bytes(content.replace(there, b"\xff" + there[1:]))
    with pytest.raises(ValueError, match=rf"copy\.onnx:? .*{message}"):
        OnnxSegmenter.load(path)


def test_files_that_are_none(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx is missing; m2f export writes"):
        OnnxSegmenter.load(tmp_path / "none.onnx")
    path = tmp_path / "half.onnx"
    path.write_bytes(files["semantic"].read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"half\.onnx isn't an ONNX file, or is damaged"):
        OnnxSegmenter.load(path)


def test_labels_that_are_too_few_are_noticed(files, tmp_path):
    def change(model):
        [entry] = model.metadata_props
        values = json.loads(entry.value)
        entry.value = json.dumps(values | {"labels": values["labels"][:1]})

    opened = OnnxSegmenter.load(changed(files, tmp_path, change))
    with pytest.raises(ValueError, match=r"labels names 1 classes, and the program found number"):
        opened(picture())


@pytest.fixture
def large(files, tmp_path, monkeypatch):
    """A file that counts as large, whose weights lie beside it."""
    monkeypatch.setattr(writing, "EXTERNAL_FROM", 1000)
    return changed(files, tmp_path, lambda _: None)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_large_weights_lie_beside_the_file(files, large, runtime):
    beside = large.with_name("copy.onnx.data")
    assert large.stat().st_size < files["semantic"].stat().st_size
    assert set(large.parent.iterdir()) == {large, beside}
    opened = OnnxSegmenter.load(large, runtime)
    same(opened(picture()), OnnxSegmenter.load(files["semantic"], runtime)(picture()))
    before = opened.digest
    beside.write_bytes(beside.read_bytes()[:-1] + b"!")
    assert opened.digest != before


def test_weights_that_are_missing_or_there_already(segmenter, large):
    beside = large.with_name("copy.onnx.data")
    large.unlink()
    with pytest.raises(FileExistsError, match=r"copy\.onnx\.data exists already"):
        export_onnx(segmenter, large, SIZE, "semantic")
    export_onnx(segmenter, large, SIZE, "semantic", overwrite=True)
    beside.unlink()
    with pytest.raises(FileNotFoundError, match=r"copy\.onnx\.data is missing, which has the wei"):
        OnnxSegmenter.load(large)


def test_a_missing_extra(files, tmp_path, capsys, monkeypatch):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "a.png"), "--model", str(files["semantic"])]
    arguments += ["--out", str(tmp_path / "no")]
    for runtime in RUNTIMES:
        monkeypatch.setitem(sys.modules, runtime, None)
        assert main([*arguments, "--runtime", runtime]) == 1
        needs = f"m2f predict needs {runtime}: pip install 'm2f-jax[onnx]'"
        assert needs in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "m2f_jax.inference.export.onnx.writing")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "streets", str(tmp_path / "x.onnx"), "--size", "32x64"]) == 1
    assert "m2f export needs onnx: pip install 'm2f-jax[onnx]'" in capsys.readouterr().err


def test_files_that_are_there_already(segmenter, files):
    with pytest.raises(FileExistsError, match=r"semantic\.onnx exists already"):
        export_onnx(segmenter, files["semantic"], SIZE)
