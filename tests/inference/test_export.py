"""Exported models compute what the Segmenter computes, and run without the model's code."""

import dataclasses
import json
import subprocess
import sys
import zipfile

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import m2f_jax
from m2f_jax.cli import main
from m2f_jax.inference.export.exported_file import (
    HEADER_FILE,
    PROGRAM_FILE,
    arrays_file,
    digest_of,
    is_exported,
    read_program,
)
from m2f_jax.inference.export.running import ExportedSegmenter
from m2f_jax.inference.export.writing import export_model, write
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.modeling.parameters import parameters
from tests.conftest import GOLDEN

PROCESSOR = ImageProcessor(
    thing_classes=(1,), object_mask_threshold=0.2, overlap_threshold=0.0, longest_edge=64
)
SIZE = (50, 80)  # resized, and padded
TASKS = ("instance", "panoptic", "semantic")


def picture(size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter(micro):
    return Segmenter(micro, PROCESSOR)


@pytest.fixture(scope="module")
def files(segmenter, tmp_path_factory):
    """One exported model per task."""
    folder = tmp_path_factory.mktemp("exported")
    for task in TASKS:
        export_model(segmenter, folder / f"{task}.m2f", SIZE, task)
    return {task: folder / f"{task}.m2f" for task in TASKS}


def same(ours, theirs):
    if isinstance(ours, np.ndarray):
        np.testing.assert_array_equal(ours, theirs, strict=True)
        return
    assert len(ours) == len(theirs) > 0
    for field in dataclasses.fields(ours):
        x, y = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "segments":
            assert [(s.id, s.label, s.is_thing) for s in x] == [
                (s.id, s.label, s.is_thing) for s in y
            ]
            x, y = ([s.score for s in segments] for segments in (x, y))
        if field.name in ("scores", "segments"):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(x, y, strict=True)


@pytest.mark.parametrize("task", TASKS)
def test_equals_the_segmenter(segmenter, files, task):
    exported = ExportedSegmenter.load(files[task])
    assert (exported.header.task, exported.header.size) == (task, SIZE)
    assert exported.header.labels == segmenter.config.labels
    same(exported(picture()), segmenter(picture(), task))


def test_thresholds_are_chosen_when_it_runs(segmenter, files):
    exported = ExportedSegmenter.load(files["instance"])
    middle = float(np.median(segmenter(picture()).scores))
    found = exported(picture(), threshold=middle)
    assert len(found) < len(exported(picture()))
    same(found, segmenter(picture(), threshold=middle))


def test_semantic_only_models_and_images_that_need_no_resizing(micro, tmp_path):
    segmenter = Segmenter(micro, ImageProcessor(resize_scores=True))
    export_model(segmenter, tmp_path / "x.m2f", (64, 64), "semantic", platforms=["cpu"])
    image = picture((64, 64))
    same(ExportedSegmenter.load(tmp_path / "x.m2f")(image), segmenter(image, "semantic"))


def test_arrays_are_kept_whatever_their_order_in_memory(files, tmp_path):
    header = ExportedSegmenter.load(files["semantic"]).header
    array = np.arange(24).reshape(2, 3, 4)
    for i, strided in enumerate([array.T, array.swapaxes(0, 1), array[:, ::2]]):
        write(tmp_path / f"{i}.m2f", header, b"", {"x": strided})
        written = load_file(arrays_file(tmp_path / f"{i}.m2f"))
        np.testing.assert_array_equal(written["x"], strided, strict=True)


FRESH = """
import sys
import m2f_jax
from m2f_jax.cli import main
code = main(sys.argv[2:])
print(*sorted(set(sys.argv[1].split()) & set(sys.modules)))
sys.exit(code)
"""
MODEL_CODE = """
flax torch m2f_jax.convert m2f_jax.modeling m2f_jax.ops
m2f_jax.inference.postprocess m2f_jax.inference.processor m2f_jax.inference.segmenter
"""


def test_predicts_in_a_fresh_process_without_the_models_code(segmenter, files, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    Image.fromarray(picture((60, 60))).save(tmp_path / "small.png")
    arguments = ["a.png", "small.png", "--model", str(files["panoptic"]), "--out", "out"]
    ran = subprocess.run(
        [sys.executable, "-c", FRESH, MODEL_CODE, "predict", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == ""
    assert ran.returncode == 1
    [line] = [line for line in ran.stderr.splitlines() if "small.png" in line]
    assert "the image is 60 x 60" in line
    assert "exported for 50 x 80" in line
    assert "--size 60x60" in line

    want = segmenter(picture(), "panoptic")
    out = tmp_path / "out"
    [annotation] = json.loads((out / "predictions.json").read_text())["annotations"]
    with Image.open(out / "maps" / "a.png") as png:
        np.testing.assert_array_equal(np.asarray(png), want.to_rgb())
    assert [s["id"] for s in annotation["segments_info"]] == [s.id for s in want.segments]
    assert (out / "overlays" / "a.jpg").exists()


def test_the_program_is_plain_jax(micro, files):
    with zipfile.ZipFile(files["semantic"]) as archive:
        exported = jax.export.deserialize(bytearray(archive.read(PROGRAM_FILE)))
    assert exported.platforms == ("cuda", "tpu", "cpu")
    arrays = jax.device_put(load_file(arrays_file(files["semantic"])), jax.devices()[0])
    assert {name for name in arrays if not name.startswith("upsampling.")} == set(parameters(micro))
    found = jax.jit(exported.call)(arrays, picture())
    assert found["class_map"].shape == SIZE
    assert b"/m2f_jax/" not in exported.mlir_module_serialized  # no folders of this machine


def test_the_command_line_says_what_it_wrote(tmp_path, capsys):
    model = str(GOLDEN / "tiny_w4_aligned" / "model_final.pkl")
    file = tmp_path / "new" / "x.m2f"
    options = ["--size", "32x64", "--dtype", "bfloat16", "--platforms", "tpu, cuda", "--native"]
    assert main(["export", model, str(file), *options]) == 0
    said = capsys.readouterr().out
    assert f"{file} and {file}.safetensors (" in said
    assert "instance of images of 32 x 64 in bfloat16, for tpu, cuda" in said
    dtypes = [x.dtype.name for x in load_file(arrays_file(file)).values()]
    assert dtypes.count("bfloat16") > 0.8 * len(dtypes)


def copy_of(files, folder):
    """One of the exported models, to be damaged."""
    path = folder / "copy.m2f"
    path.write_bytes(files["semantic"].read_bytes())
    arrays_file(path).write_bytes(arrays_file(files["semantic"]).read_bytes())
    return path


def rewrite(path, header=None, program=None, method=zipfile.ZIP_DEFLATED):
    """Puts another header or program into an exported model, without a word to its arrays."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(HEADER_FILE, header or parts[HEADER_FILE])
        archive.writestr(PROGRAM_FILE, program or parts[PROGRAM_FILE])


def read_parts(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(HEADER_FILE)), archive.read(PROGRAM_FILE)


def rewrite_header(path, **changes):
    rewrite(path, header=json.dumps(read_parts(path)[0] | changes))


def flip(path, place):
    """Changes a byte of a file, and returns what it was before."""
    content = bytearray(path.read_bytes())
    before = content[place]
    content[place] ^= 0x7F
    path.write_bytes(content)
    return before


def test_files_that_do_not_fit_are_refused_by_name(files, tmp_path):
    load = ExportedSegmenter.load
    with pytest.raises(FileNotFoundError, match=r"none\.m2f is missing; m2f export writes"):
        load(tmp_path / "none.m2f")
    path = copy_of(files, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"copy\.m2f isn't an exported model, or is damaged"):
        load(path)
    path.write_bytes(whole)
    rewrite_header(path, format=99)
    with pytest.raises(ValueError, match=r"copy\.m2f is of format 99.*upgrade m2f-jax"):
        load(path)
    path.write_bytes(whole)
    rewrite_header(path, platforms=["tpu"])
    with pytest.raises(ValueError, match=r"for tpu, and this is cpu;.*--platforms tpu,cpu"):
        load(path)
    path.write_bytes(whole)
    arrays = arrays_file(path)
    arrays.write_bytes(arrays.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"copy\.m2f\.safetensors is damaged"):
        load(path)
    save_file({}, arrays, metadata={"digest": "of another export"})
    with pytest.raises(ValueError, match=r"copy\.m2f\.safetensors isn't of the same export"):
        load(path)
    arrays.unlink()
    with pytest.raises(FileNotFoundError, match=r"copy\.m2f\.safetensors is missing.*copy both"):
        load(path)


def test_programs_that_jax_cannot_read_are_refused_by_name(files, tmp_path):
    path = copy_of(files, tmp_path)
    header, program = read_program(path)[:2]
    module = program.index(b"ML\xefR")
    program = program[:module] + b"from the future" + program[module + 15 :]
    arrays = load_file(arrays_file(path))
    digest = digest_of(program, arrays)
    write(path, dataclasses.replace(header, jax_version="99.0", digest=digest), program, arrays)
    with pytest.raises(ValueError, match=r"copy\.m2f was exported with jax 99\.0.*upgrade jax"):
        ExportedSegmenter.load(path)


def test_a_flipped_byte_anywhere_is_refused(files, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("copy.m2f", "copy.m2f.safetensors"):
        path = copy_of(files, tmp_path)
        file = tmp_path / name
        whole = file.read_bytes()
        [length] = np.frombuffer(whole[:8], "<u8") if name != "copy.m2f" else [200]
        places = [
            *rng.integers(len(whole), size=20),
            *rng.integers(length, size=20),
        ]
        for place in [*places, len(whole) - 1, *(len(whole) - rng.integers(1, 150, size=20))]:
            file.write_bytes(whole)
            flip(file, place)
            with pytest.raises(ValueError, match=r"copy\.m2f"):
                ExportedSegmenter.load(path)
        file.write_bytes(whole)
    ExportedSegmenter.load(path)


def test_changes_that_no_checksum_of_the_zip_file_tells(files, tmp_path):
    path = copy_of(files, tmp_path)
    _, program = read_parts(path)
    changed = bytearray(program)
    changed[len(changed) // 2] ^= 1
    rewrite(path, program=bytes(changed))
    with pytest.raises(
        ValueError, match=r"copy\.m2f or .*copy\.m2f\.safetensors is damaged: program"
    ):
        ExportedSegmenter.load(path)
    path = copy_of(files, tmp_path)
    flip(arrays_file(path), -101)
    with pytest.raises(ValueError, match=r"copy\.m2f\.safetensors is damaged: program and weights"):
        ExportedSegmenter.load(path)
    path = copy_of(files, tmp_path)
    header, _ = read_parts(path)
    header["labels"][0]["name"] = "another"
    rewrite_header(path, labels=header["labels"])
    with pytest.raises(ValueError, match=r"copy\.m2f is damaged: it isn't as it was exported"):
        ExportedSegmenter.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "banana"}, r"header\.json\.task has the value 'banana'; expected one of inst"),
        ({"task": "instance"}, r"header\.json\.task is instance, and the program's is semantic"),
        ({"task": None}, r"header\.json\.task has the value None"),
        ({"labels": []}, r"header\.json: labels is empty"),
        ({"labels": {}}, r"header\.json\.labels needs a list"),
        ({"labels": [{"id": "1"}]}, r"header\.json\.labels\[0\] lacks the field"),
        ({"platforms": []}, r"header\.json: platforms is empty"),
        ({"platforms": ["toaster"]}, r"header\.json\.platforms\[0\] has the value 'toaster'"),
        ({"platforms": ["cpu"]}, r"header\.json\.platforms is \['cpu'\], and the program's"),
        ({"dtype": "x"}, r"header\.json\.dtype has the value 'x'"),
        ({"dtype": 16}, r"header\.json\.dtype has the value 16"),
        ({"size": [50, 81]}, r"header\.json\.size is \[50, 81\], and the program's is \[50, 80\]"),
        ({"size": [50]}, r"header\.json\.size needs a list of 2, not \[50\]"),
        ({"size": [0, 80]}, r"header\.json: size must be from 1 to 65536"),
        ({"size": [10**30, 80]}, r"header\.json: size must be from 1 to 65536"),
        ({"jax_version": 1}, r"header\.json\.jax_version has the value 1"),
        ({"digest": []}, r"header\.json\.digest has the value \[\]"),
        ({"more": 1}, r"header\.json has no field more"),
        ({"format": "1"}, r"is of format '1'"),
        ({"format": None}, r"is of format None"),
        ({"format": True}, r"is of format True"),
        ({"format": 1}, None),  # which knew no digest of the whole file
    ],
)
def test_headers_that_make_no_sense(files, tmp_path, monkeypatch, changes, message):
    path = copy_of(files, tmp_path)
    rewrite_header(path, **changes)
    monkeypatch.setattr(jax, "jit", None)  # for nothing is compiled
    if message is None:
        assert read_program(path).digest is None
        return
    with pytest.raises(ValueError, match=rf"copy\.m2f:? .*{message}"):
        ExportedSegmenter.load(path)


def test_models_of_the_first_format(files, tmp_path):
    path = copy_of(files, tmp_path)
    same_arrays = load_file(arrays_file(path))
    rewrite_header(path, format=1)
    digest = read_parts(path)[0]["digest"]
    save_file(same_arrays, arrays_file(path), metadata={"format": "m2f_jax", "digest": digest})
    exported = ExportedSegmenter.load(path)
    same(exported(picture()), ExportedSegmenter.load(files["semantic"])(picture()))
    flip(arrays_file(path), -101)
    with pytest.raises(
        ValueError, match=r"copy\.m2f or .*copy\.m2f\.safetensors is damaged: program"
    ):
        ExportedSegmenter.load(path)


@pytest.mark.parametrize(
    ("header", "program", "method"),
    [
        (b"[]", None, zipfile.ZIP_DEFLATED),
        (b"[" * 100_000, None, zipfile.ZIP_DEFLATED),
        (b'{"format":' * 100_000, None, zipfile.ZIP_DEFLATED),
        (b"{}", None, zipfile.ZIP_DEFLATED),
        (b'{"format": 2, "format": 2}', None, zipfile.ZIP_DEFLATED),
        (bytes(2**24 + 1), None, zipfile.ZIP_DEFLATED),
        (None, bytes(2**26), zipfile.ZIP_DEFLATED),
        (None, None, zipfile.ZIP_BZIP2),
        (None, None, zipfile.ZIP_LZMA),
    ],
)
def test_parts_that_are_none(files, tmp_path, header, program, method):
    path = copy_of(files, tmp_path)
    rewrite(path, header, program, method)
    with pytest.raises(ValueError, match=r"copy\.m2f isn\'t an exported model") as error:
        read_program(path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99), (0, 0), (10, 14)])
@pytest.mark.parametrize("name", ["copy.m2f", "copy"])
def test_directories_that_lie(files, tmp_path, offset, value, name):
    """Encrypted, of an unknown method, no directory: under any name."""
    content = bytearray(copy_of(files, tmp_path).read_bytes())
    content[content.find(b"PK\x01\x02") + offset] = value
    path = tmp_path / "other" / name
    path.parent.mkdir()
    path.write_bytes(content)
    if is_exported(path):
        with pytest.raises(ValueError, match=rf"{name} isn't an exported model, or is damaged"):
            read_program(path)
    else:
        with pytest.raises(ValueError, match=rf"{name} is a zip file that is incomplete"):
            m2f_jax.load(path)


def test_files_are_told_apart(files, tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(files["semantic"].read_bytes())
    assert is_exported(plain)
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.writestr("data.pkl", b"")
    assert not is_exported(tmp_path / "weights.pth")
    assert not is_exported(tmp_path)
    assert not is_exported("facebook/mask2former-swin-tiny-coco-instance")


def test_nothing_is_overwritten_unless_asked(segmenter, tmp_path):
    path = tmp_path / "x.m2f"
    arrays_file(path).write_text("precious")
    with pytest.raises(FileExistsError, match=r"x\.m2f\.safetensors exists already"):
        export_model(segmenter, path, SIZE)
    assert [p.name for p in tmp_path.iterdir()] == ["x.m2f.safetensors"]
    header = export_model(segmenter, path, SIZE, overwrite=True, platforms=["cpu"])
    assert header.task == segmenter.config.task
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.m2f", "x.m2f.safetensors"]
    assert path.stat().st_mode == arrays_file(path).stat().st_mode


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "wide"], "--size is height x width"),
        (["--size", "0x64"], "--size must have sides from 1 to 65536 pixels, not 0x64"),
        (["--size", "64x64", "--platforms", "cpu,toaster"], "not toaster"),
        (["--size", "64x64", "--platforms", ","], "not none"),
    ],
)
def test_impossible_exports_are_refused(options, message, tmp_path, capsys):
    assert main(["export", "streets", str(tmp_path / "x.m2f"), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "panoptic"], "--task was settled when the model was exported, semantic"),
        (["--dtype", "bfloat16"], "--dtype was settled when the model was exported, float32"),
        (["--native"], "--native was settled"),
        (["--revision", "main"], "--revision was settled"),
        (["--batch-size", "2"], "--batch-size was settled"),
    ],
)
def test_what_was_settled_cannot_be_asked_for(options, message, files, tmp_path, capsys):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    model = ["--model", str(files["semantic"]), "--out", str(tmp_path / "out")]
    assert main(["predict", str(tmp_path / "a.png"), *model, *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="exported for the task semantic, not panoptic"):
        ExportedSegmenter.load(files["semantic"])(picture(), "panoptic")


def test_info_tells_of_it(files, capsys):
    assert main(["info", str(files["panoptic"]), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["task"] == "panoptic"
    assert facts["image"] == list(SIZE)
    assert facts["exported with"] == f"jax {jax.__version__}"
    assert main(["info", str(files["panoptic"]), "--memory", "64", "96"]) == 1
    assert "--memory is for the model it was made of" in capsys.readouterr().err
