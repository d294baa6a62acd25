"""What doesn't fit is named, all of it at once."""

import json
import pickle
import re

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from m2f_jax.convert import convert, open_checkpoint
from m2f_jax.convert.guessing import adopt_labels
from m2f_jax.convert.tables.huggingface import config as huggingface_config

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.parameters import check_finite, parameter_shapes
from tests.conftest import GOLDEN
from tests.convert.conftest import CONFIG, PROCESSOR, SQUARE, WEIGHTS, edit, read_file, write_file


def spoil(arrays, names):
    """Spoils four tensors, one in each way."""
    missing, other, turned, counted = names
    arrays[other] = arrays.pop(missing)
    arrays[turned] = arrays[turned][:-1]
    arrays[counted] = arrays[counted].astype(np.int64)
    return arrays


AUTHORS_NAMES = (
    "sem_seg_head.predictor.decoder_norm.bias",
    "criterion.empty_weights",
    "backbone.layers.0.blocks.0.attn.qkv.weight",
    "backbone.norm3.weight",
)
HUGGING_FACE_NAMES = (
    "model.transformer_module.decoder.layernorm.bias",
    "model.transformer_module.decoder.other_norm.bias",
    "model.transformer_module.decoder.layers.0.cross_attn.in_proj_weight",
    "class_predictor.bias",
)
OUR_NAMES = (
    "decoder.heads.norm.bias",
    "decoder.heads.other_norm.bias",
    "decoder.queries",
    "backbone.norms.3.scale",
)


@pytest.mark.parametrize(
    ("form", "names"),
    [("authors", AUTHORS_NAMES), ("hugging_face", HUGGING_FACE_NAMES), ("ours", OUR_NAMES)],
)
def test_all_that_does_not_fit_in_one_message(request, tmp_path, form, names):
    source = request.getfixturevalue(form)
    path = source if source.is_file() else source / WEIGHTS
    arrays = spoil(read_file(path), names)
    if source.is_file():
        source = path = tmp_path / "model_final.pkl"
        path.write_bytes(pickle.dumps(arrays))
    else:
        write_file(path, arrays)
    have, need = list(arrays[names[2]].shape), list(arrays[names[2]].shape)
    need[0] += 1
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        open_checkpoint(source)
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
        f"missing: {names[0]}",
        f"unexpected: {names[1]} {list(arrays[names[1]].shape)}",
        f"shape: {names[2]} is {have}, the model needs {need}",
        f"numbers: {names[3]} is int64, the model needs floats",
    ]


def test_long_lists_are_cut(hugging_face):
    edit(hugging_face / CONFIG, {"encoder_layers": 40})
    with pytest.raises(ValueError, match=r"hf/model.safetensors doesn't fit the config.json") as e:
        open_checkpoint(hugging_face)
    assert len(str(e.value).splitlines()) == 12
    assert re.search(r"missing: at least \d\d more$", str(e.value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_queries": 7}, r"shape: .*queries_features.weight is .*, the model needs \[7, 64\]"),
        ({"num_queries": ...}, "config.json lacks the field num_queries"),
        ({"num_queries": "12"}, "config.json: num_queries has the value '12'; expected int"),
        ({"hidden_dim": 72}, "feature_size 64 and hidden_dim 72 differ"),
        ({"hidden_dim": 72, "feature_size": 72}, r"config.json: no network can .*\(.*\)"),
        ({"num_attention_heads": 5}, "5 heads don't divide a width of 64"),
        ({"num_attention_heads": 0}, "num_heads must be"),
        ({"dim_feedforward": -3}, "ffn_dim must be"),
        ({"pre_norm": True}, "config.json: pre_norm is True; only models with False"),
        ({"id2label": {"0": "cat", "2": "dog"}}, "id2label needs the classes under"),
        ({"id2label": ["cat", "dog"]}, "id2label needs the classes under"),
        ({"id2label": {}}, "id2label needs the classes under"),
        ({"id2label": ...}, r"shape: class_predictor.bias is .*, the model needs \[3\]"),
        ({"backbone_config": ...}, "backbone_config is missing; only backbones"),
        ({"backbone_config": None, "backbone": "resnet50"}, "backbone_config is missing; only"),
        (
            {"backbone_config": {"model_type": "focalnet"}},
            "model_type is 'focalnet'; only",
        ),
        ({"backbone_config": {"model_type": "swin"}}, "backbone_config lacks the field embed_dim"),
        ({"architectures": ["VideoMask2FormerForVideoSegmentation"]}, "names a video model"),
        ({"model_type": "maskformer"}, "decoder_config is missing; is it a MaskFormer's"),
        ({"model_type": "swin"}, "model_type is 'swin'; expected"),
        ({"model_type": "video_mask2former"}, "model_type is 'video_mask2former'; expected"),
        (
            {"model_type": ...},
            "model_type is None; expected one of 'm2f_jax', 'mask2former', 'mask",
        ),
        ({"model_type": "m2f_jax"}, "config.json: ModelConfig has no field"),
    ],
)
def test_configs_of_other_models(hugging_face, changes, message):
    edit(hugging_face / CONFIG, changes)
    with pytest.raises(ValueError, match=message) as caught:
        open_checkpoint(hugging_face)
    assert str(hugging_face) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [1, 1]}, "need 4 entries"),
        ({"depths": 3}, "backbone_config: depths needs a list, not 3"),
        ({"num_heads": [0, 1, 1, 1]}, "num_heads must be"),
        ({"num_heads": [5, 1, 1, 1]}, "5 heads don't divide"),
        ({"embed_dim": "96"}, "backbone_config: embed_dim has the value '96'"),
        ({"window_size": 5}, r"shape: .*relative_position_bias_table is .*, the model needs"),
        ({"hidden_act": "gelu_new"}, "backbone_config: hidden_act is 'gelu_new'"),
        ({"patch_size": 2}, "backbone_config: patch_size is 2"),
    ],
)
def test_configs_of_other_backbones(hugging_face, changes, message):
    values = json.loads((hugging_face / CONFIG).read_text())
    edit(hugging_face / CONFIG, {"backbone_config": values["backbone_config"] | changes})
    with pytest.raises(ValueError, match=message) as caught:
        open_checkpoint(hugging_face)
    assert str(hugging_face) in str(caught.value)


@pytest.mark.parametrize("form", ["hugging_face", "ours"])
@pytest.mark.parametrize("content", ["[1, 2]", "null", "", "{"])
@pytest.mark.parametrize("name", [CONFIG, PROCESSOR])
def test_files_that_are_no_json_objects(request, form, name, content):
    folder = request.getfixturevalue(form)
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} (holds no JSON object|is not valid JSON)"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("hugging_face", CONFIG),
        ("hugging_face", WEIGHTS),
        ("ours", CONFIG),
        ("ours", WEIGHTS),
        ("ours", PROCESSOR),
    ],
)
def test_files_that_are_missing(request, form, name):
    folder = request.getfixturevalue(form)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{folder} has no {name}"):
        open_checkpoint(folder)


def test_fields_of_our_own_config(ours):
    edit(ours / CONFIG, {"labels": []})
    with pytest.raises(ValueError, match=rf"{ours}/config.json: .*labels is empty"):
        open_checkpoint(ours)


RESNET = {
    "backbone.stem.conv1.weight": (64, 3, 7, 7),
    "sem_seg_head.predictor.class_embed.weight": (9, 256),
    "sem_seg_head.predictor.query_embed.weight": (100, 256),
}


@pytest.mark.parametrize(
    ("shapes", "missing"),
    [
        (RESNET, "backbone.res2.0.conv3.weight is missing"),
        ({"patch_embed.proj.weight": (96, 3, 4, 4)}, "class_embed.weight is missing"),
        (
            {"sem_seg_head.predictor.class_embed.weight": (9, 256)},
            "query_embed.weight is missing",
        ),
        (RESNET | {"sem_seg_head.predictor.class_embed.weight": ()}, r"has the shape \[\]"),
        (RESNET | {"sem_seg_head.predictor.query_embed.weight": (0, 8)}, r"has the shape \[0, 8\]"),
        ({}, "class_embed.weight is missing"),
    ],
)
def test_pickles_of_other_models(tmp_path, shapes, missing):
    path = tmp_path / "model_final.pkl"
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    path.write_bytes(pickle.dumps({"model": arrays}))
    with pytest.raises(ValueError, match=rf"model_final\.pkl: .*{missing}.*Mask2Former on Swin"):
        open_checkpoint(path)


def test_what_the_checkpoint_says_itself(hugging_face, ours):
    with pytest.raises(ValueError, match="says how many heads there are; drop num_heads"):
        open_checkpoint(hugging_face, num_heads=8)
    with pytest.raises(ValueError, match="names its task; drop task"):
        open_checkpoint(ours, task="instance")
    with pytest.raises(ValueError, match=rf"one file of a model; name its folder, {ours}"):
        open_checkpoint(ours / WEIGHTS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["authors", "hugging_face", "ours"])
def test_numbers_that_are_not_finite(request, tmp_path, form, value):
    source = request.getfixturevalue(form)
    path = source if source.is_file() else source / WEIGHTS
    arrays = read_file(path)
    name = next(name for name in sorted(arrays) if "norm" in name)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[-1] = value
    if source.is_file():
        source = path = tmp_path / "model_final.pkl"
        path.write_bytes(pickle.dumps(arrays))
    else:
        write_file(path, arrays)
    said = rf"{path}: 1 of the {arrays[name].size} numbers of {name} aren't finite, such as {value}"
    with pytest.raises(ValueError, match=re.escape(said)):
        convert(source, tmp_path / "new")
    assert not any((tmp_path / "new").iterdir())
    with pytest.raises(ValueError, match=re.escape(said)):
        Mask2Former.from_pretrained(source)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_finite_numbers_of_every_kind(dtype):
    good = np.array([[-2, 0], [3, 4]], dtype)
    check_finite("a", good, "file")
    check_finite("a", jnp.asarray(good, jnp.bfloat16), "file")
    check_finite("a", good.astype(np.int64), "file")
    good[1, 0] = np.nan
    with pytest.raises(ValueError, match="file: 1 of the 4 numbers of a aren't finite"):
        check_finite("a", good, "file")
    with pytest.raises(ValueError, match="file: 1 of the 4 numbers of a aren't finite"):
        check_finite("a", jnp.asarray(good, jnp.bfloat16), "file")


def test_numbers_beyond_float32_are_not_finite_there():
    with pytest.raises(ValueError, match=r"file: 1 of the 2 numbers of a aren't .* 1e\+200"):
        check_finite("a", np.array([1.0, 1e200]), "file")


ODD = [
    *(None, True, -1, 0, 1.5, 2 * 10**9, 10**30, -1e300, float("nan"), float("inf")),
    *("", "x\ny", [], [None], [[]], ["x"], [1, 2, 3, 4], {}, {"a": 1}, {"0": 3}),
]


def places_in(value, path=()):
    """Where the values of a JSON object are, and those of the objects and lists within."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places_in(part, (*path, key))


def changed(values, place, value):
    """A copy of a JSON object with another value at a place."""
    copied = json.loads(json.dumps(values))
    inner = copied
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copied


def check_every_field(read, values, where):
    """Puts odd values in every place, of which `read` may refuse each: by the file, in a line."""
    refused = 0
    for place in places_in(values):
        for odd in ODD:
            try:
                read(changed(values, place, odd))
            except ValueError as error:
                message = str(error)
                assert message.startswith(where), (place, odd, message)
                assert "\n" not in message, (place, odd, message)
                assert len(message) < 700, (place, odd, message)
                names = {key for key in place if isinstance(key, str)} | ALIASES
                assert any(name in message for name in names), (place, odd, message)
                refused += 1
    return refused


ALIASES = {  # what messages call fields of Hugging Face's
    *("num_layers", "ffn_dim", "mask_dim", "shortest_edge", "longest_edge", "mean", "std"),
    *("num_heads", "num_queries", "dim", "feature_size", "stem_dim", "hidden_sizes", "dropout"),
}


@pytest.mark.parametrize("name", ["tiny_w4_aligned", "r50_tiny", "maskformer_swin"])
def test_odd_values_in_every_field_of_hugging_faces_config(name):
    values = json.loads((GOLDEN / name / "hf" / CONFIG).read_text())
    if "decoder_config" in values:
        del values["decoder_config"]["backbone_config"]  # of a DETR; nobody reads it

    def read(values):
        labels = adopt_labels(huggingface_config.class_names(values, "hf/config.json"))
        huggingface_config.config_from_huggingface(values, labels, "instance", "hf/config.json")

    assert check_every_field(read, values, "hf/config.json") > 300


def test_odd_values_in_every_field_of_hugging_faces_processor():
    for values in (SQUARE, SQUARE | {"size": 480, "max_size": 900}):
        assert (
            check_every_field(
                lambda x: huggingface_config.processor_from_huggingface(
                    x, ImageProcessor(), "hf/p.json"
                ),
                values,
                "hf/p.json",
            )
            > 100
        )


def test_odd_values_in_every_field_of_our_files(ours):
    for name, load in ((CONFIG, Mask2FormerConfig.load), (PROCESSOR, ImageProcessor.load)):
        path = ours / name
        values = json.loads(path.read_text())

        def read(values, path=path, load=load):
            path.write_text(json.dumps(values))
            load(path)

        assert check_every_field(read, values, str(path)) > 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_layers": 2 * 10**9}, r"config\.json: .*num_layers must be from 1 to 200"),
        ({"encoder_layers": 10**30}, r"config\.json: .*num_layers must be from 1 to 200"),
        ({"architectures": 1.5}, r"config\.json: architectures needs a list, not 1\.5"),
        ({"architectures": [["Video"]]}, r"config\.json: architectures\[0\] has the value"),
        ({"_name_or_path": 3}, r"config\.json: _name_or_path has the value 3"),
        ({"id2label": {"0": "a", "1": None}}, r"config\.json: id2label: 1 has the value None"),
        ({"backbone_config": {"model_type": ["swin"]}}, r"backbone_config: model_type is \['swin"),
        ({"backbone_config": 7}, "backbone_config is 7; only backbones"),
    ],
)
def test_configs_that_ask_for_anything(hugging_face, changes, message):
    edit(hugging_face / CONFIG, changes)
    with pytest.raises(ValueError, match=message) as caught:
        open_checkpoint(hugging_face)
    assert str(hugging_face) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"decoder_layers": 201}, "decoder.layers.3.cross_attn"),
        ({"encoder_layers": 200}, "decoder.encoder.layers.2.self_attn"),
        ({"backbone_config": {"depths": [1, 1, 200, 1]}}, "encoder.layers.2.blocks.2.layernorm"),
        ({"backbone_config": {"depths": [200] * 4}}, "encoder.layers.0.blocks.1.layernorm"),
    ],
)
def test_deeper_models_than_the_weights_are_not_laid_out(
    hugging_face, monkeypatch, changes, missing
):
    """Which would take a minute."""
    values = json.loads((hugging_face / CONFIG).read_text())
    changes = {k: {**values[k], **v} if isinstance(v, dict) else v for k, v in changes.items()}
    edit(hugging_face / CONFIG, changes)
    laid_out = []
    monkeypatch.setattr(
        "m2f_jax.convert.reading.parameter_shapes",
        lambda config: laid_out.append(config) or parameter_shapes(config),
    )
    with pytest.raises(
        ValueError, match=rf"(?s)hf/model\.safetensors doesn't fit.*missing: \S*{missing}"
    ):
        open_checkpoint(hugging_face)
    [config] = laid_out
    assert max(config.backbone.depths) < 8
    assert max(config.decoder.num_layers, config.pixel_decoder.num_layers) < 8


def test_deeper_encoders_than_the_weights_are_not_laid_out(tmp_path, monkeypatch):
    convert(GOLDEN / "maskformer_r50" / "model_final.pkl", tmp_path)
    pixel_decoder = json.loads((tmp_path / CONFIG).read_text())["pixel_decoder"]
    edit(tmp_path / CONFIG, {"pixel_decoder": pixel_decoder | {"encoder_layers": 200}})
    laid_out = []
    monkeypatch.setattr(
        "m2f_jax.convert.reading.parameter_shapes",
        lambda config: laid_out.append(config) or parameter_shapes(config),
    )
    with pytest.raises(ValueError, match=r"missing: pixel_decoder\.layers\.2\.attention"):
        open_checkpoint(tmp_path)
    assert laid_out[0].pixel_decoder.encoder_layers < 8
