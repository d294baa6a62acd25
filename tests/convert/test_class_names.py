"""Names of classes, and what stands before names of tensors."""

import json
import pickle

import numpy as np
import pytest
from m2f_jax.convert import convert, open_checkpoint

import m2f_jax
from m2f_jax.labels import CITYSCAPES, numbered, things
from m2f_jax.labels.choosing import NAMED_LABELS, read_labels
from tests.convert.conftest import (
    WEIGHTS,
    check_equal,
    names_of,
    read,
    read_file,
    respell,
    write_file,
)


def eight_classes(authors, path):
    """An authors' file of eight classes of one's own."""
    arrays = read_file(authors)
    for name in [name for name in arrays if ".class_embed." in name]:
        arrays[name] = np.concatenate([arrays[name][:1]] * 8 + [arrays[name][-1:]])
    path.write_bytes(pickle.dumps({"model": arrays}))
    return path


def test_classes_that_a_file_does_not_name(authors, tmp_path, caplog):
    path = eight_classes(authors, tmp_path / "model_final.pkl")
    assert names_of(open_checkpoint(path).config.labels) == [f"class {k}" for k in range(8)]
    [record] = caplog.records
    said = record.getMessage()
    assert said.startswith(f"{path} doesn't name its 8 classes: they are called class 0")
    assert f"--labels {', '.join(NAMED_LABELS)} or FILE" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "name",
    ["model_final_dfa862.pkl", "swin-tiny-cityscapes-instance.pkl",
     "mask2former-swin-base-IN21k-cityscapes-instance.pth"],
)  # fmt: skip
def test_published_files_are_known_by_their_names(authors, tmp_path, caplog, name):
    config = open_checkpoint(eight_classes(authors, tmp_path / name)).config
    assert (config.labels, config.task) == (things(CITYSCAPES), "instance")
    assert not caplog.records


@pytest.mark.parametrize("name", ["model_final_f07440.pkl", "model_final_123456.pkl", "swin.pkl"])
def test_files_of_other_classes_than_their_names_say(authors, tmp_path, name):
    config = open_checkpoint(eight_classes(authors, tmp_path / name)).config
    assert config.labels == numbered(8)


def test_classes_by_choice(authors, hugging_face, ours, tmp_path, caplog):
    path = eight_classes(authors, tmp_path / "model_final.pkl")
    assert open_checkpoint(path, labels="cityscapes").config.labels == things(CITYSCAPES)
    assert not caplog.records
    (tmp_path / "names.txt").write_text("cat\n\ndog\nhorse\n")
    for source in (authors, hugging_face, ours):
        labels = open_checkpoint(source, labels=tmp_path / "names.txt").config.labels
        assert names_of(labels) == ["cat", "dog", "horse"]
        with pytest.raises(ValueError, match=r"has 3 classes, and coco has 133, of which 80 are"):
            open_checkpoint(source, labels="coco")
    with pytest.raises(ValueError, match=r"model_final.pkl has 8 classes, and .*names.txt names 3"):
        open_checkpoint(path, labels=str(tmp_path / "names.txt"))
    with pytest.raises(ValueError, match="has 8 classes, and the labels are 2"):
        open_checkpoint(path, labels=numbered(2))
    convert(authors, tmp_path / "new", labels=tmp_path / "names.txt")
    opened = m2f_jax.load(tmp_path / "new")
    assert names_of(opened.labels) == ["cat", "dog", "horse"]
    assert names_of(m2f_jax.load(authors, labels=opened.labels).labels) == names_of(opened.labels)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (["cat", "dog"], [(1, "cat", True), (2, "dog", True)]),
        ([{"id": 3, "name": "cat"}, {"id": 9, "name": " sky ", "isthing": 0}],
         [(3, "cat", True), (9, "sky", False)]),
        ({"categories": [{"id": 0, "name": "a", "isthing": True, "color": [0]}], "images": []},
         [(0, "a", True)]),
    ],
)  # fmt: skip
def test_files_of_classes(tmp_path, content, labels):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert [(x.id, x.name, x.is_thing) for x in read_labels(path)] == labels


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", [], "names 0 classes"),
        ("a.json", 3, r"a\.json needs a list"),
        ("a.json", {"categories": None}, r"a\.json\.categories needs a list"),
        ("a.json", [None], r"a\.json\[0\] is None; the file lists"),
        ("a.json", [{"id": 1}], r"a\.json\[0\] is {'id': 1}; the file lists"),
        ("a.json", ["a", " "], r"a\.json\[1\] is ' '"),
        ("a.json", [{"id": 65536, "name": "a"}], r"a\.json\[0\]\.id is 65536; expected"),
        ("a.json", [{"id": -1, "name": "a"}], r"a\.json\[0\]\.id is -1"),
        ("a.json", [{"id": "1", "name": "a"}], r"a\.json\[0\]\.id is '1'"),
        ("a.json", [{"id": True, "name": "a"}], r"a\.json\[0\]\.id is True"),
        ("a.json", [{"name": "a", "isthing": "0"}], r"a\.json\[0\]\.isthing is '0'"),
        ("a.json", [{"id": 3, "name": "a"}, {"id": 1, "name": "b"}], r"\[1\]\.id is 1, after 3"),
        ("a.json", [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}], "2 classes have the id 3"),
        ("a.json", ["a", "b", "a"], "2 classes have the name 'a'"),
        ("a.txt", "a\nb\na\n", "2 classes have the name 'a'"),
        ("a.txt", "\n \n", "names 0 classes"),
        ("a.txt", b"\xff\xfe\x00", r"a\.txt isn't text in UTF-8"),
    ],
)
def test_files_of_classes_that_make_no_sense(tmp_path, name, content, message):
    text = content if isinstance(content, str) else json.dumps(content) if name[-1] == "n" else ""
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / name)


def test_classes_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none is no file; classes are one of cityscapes"):
        read_labels(tmp_path / "none")


WRAPPED = {  # what is put before which names
    "compiled": [("^", "_orig_mod.")],
    "a compiled part": [(r"^(backbone|model.pixel_level_module)\.", r"\1._orig_mod.")],
    "Lightning": [("^", "model.")],
    "Lightning, compiled": [("^", "model._orig_mod.")],
    "distributed, compiled": [("^", "module._orig_mod.")],
    "compiled, distributed": [("^", "_orig_mod.module.")],
    "a field of a field": [("^", "net.inner.")],
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("form", ["authors", "hugging_face"])
def test_wrapped_names(request, tmp_path, caplog, form, name):
    source = request.getfixturevalue(form)
    before = open_checkpoint(source, labels=numbered(3))
    tensors, caplog_before = read(before.tensors), len(caplog.records)
    path = source if source.is_file() else source / WEIGHTS
    arrays = respell(read_file(path), WRAPPED[name])
    if source.is_file():
        source = path = tmp_path / "lightning.ckpt"
        path.write_bytes(pickle.dumps({"epoch": 3, "state_dict": arrays}, 2))
    else:
        write_file(path, arrays)
    after = open_checkpoint(source, labels=numbered(3))
    assert after.config == before.config
    check_equal(read(after.tensors), tensors)
    [record] = caplog.records[caplog_before:]
    assert record.getMessage().startswith(f"{path}: the names of its tensors have '")


def test_two_wrapped_models(authors, tmp_path):
    arrays = read_file(authors)
    both = respell(arrays, [("^", "model.")]) | respell(arrays, [("^", "ema.")])
    path = tmp_path / "lightning.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": both}, 2))
    with pytest.raises(ValueError, match=r"lightning.ckpt holds 2 models, .* ema\., model\.; save"):
        open_checkpoint(path)
    both = arrays | respell(arrays, [("^", "ema.")])
    path.write_bytes(pickle.dumps({"state_dict": both}, 2))
    with pytest.raises(ValueError, match=r"unexpected: ema\."):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["state.pkl", "state.safetensors"])
@pytest.mark.parametrize("before", ["", "module.", "model."])
def test_a_state_dict_of_transformers_alone(hugging_face, tmp_path, name, before):
    arrays = respell(read_file(hugging_face / WEIGHTS), [("^", before)])
    path = tmp_path / name
    if name.endswith("pkl"):
        path.write_bytes(pickle.dumps(arrays, 2))
    else:
        write_file(path, arrays)
    said = rf"{name} holds the weights of transformers' .*\.load_state_dict\(torch\.load\('{name}"
    with pytest.raises(ValueError, match=said) as caught:
        open_checkpoint(path)
    assert "model.save_pretrained('FOLDER')" in str(caught.value)
