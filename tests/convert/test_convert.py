"""Checkpoints in every spelling: each bit arrives, both ways, and what doesn't fit is named."""

import dataclasses
import errno
import functools
import inspect
import json
import pickle
import re
import shutil

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from m2f_jax.convert import convert, open_checkpoint, save_checkpoint
from m2f_jax.convert.files.class_names import read_labels
from m2f_jax.convert.files.formats import StoredTensor, open_tensors, write_safetensors
from m2f_jax.convert.reading import adopt_labels, guess_task
from m2f_jax.convert.tables import authors as authors_tables
from m2f_jax.convert.tables import rules
from m2f_jax.convert.tables.backbones import swin
from m2f_jax.convert.tables.huggingface import config as huggingface_config
from m2f_jax.convert.tables.huggingface import tensors as huggingface

import m2f_jax
from m2f_jax.config import (
    FPNPixelDecoderConfig,
    Mask2FormerConfig,
    SwinConfig,
    TransformerDecoderConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import (
    ADE20K,
    ADE20K_FULL,
    CITYSCAPES,
    COCO,
    COCO_STUFF,
    MAPILLARY_VISTAS,
    numbered,
    things,
)
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.parameters import check_finite, parameter_shapes
from m2f_jax.presets import PRESETS, preset
from tests.conftest import GOLDEN, MASKFORMERS, MICRO, NAMES

CONFIG, WEIGHTS, PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"


@pytest.fixture
def authors(tiny):
    return tiny.folder / "model_final.pkl"


@pytest.fixture
def hugging_face(tiny, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(tiny.folder / "hf", tmp_path / "hf")


@pytest.fixture
def other():
    """Another model than `authors`."""
    return GOLDEN / "tiny_batch2" / "model_final.pkl"


@pytest.fixture
def ours(authors, tmp_path):
    convert(authors, tmp_path / "ours")
    return tmp_path / "ours"


def read(tensors):
    return {name: tensor.read() for name, tensor in tensors.items()}


def read_file(path):
    """The tensors in a file, under the names that they have there."""
    return read(open_tensors(path))


def write_file(path, arrays):
    write_safetensors(path, {name: StoredTensor.of(array) for name, array in arrays.items()}, {})


def edit(path, changes):
    """Changes fields of a JSON file, or removes those given as `...`."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def check_equal(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], strict=True, err_msg=name)


def check_same_model(one, other):
    assert one.config == other.config
    assert one.processor == other.processor
    check_equal(read(one.tensors), read(other.tensors))


# --- every bit arrives ---------------------------------------------------------------------------

every_model = pytest.mark.parametrize("golden", [*NAMES, *MASKFORMERS], indirect=True)
at_hugging_face = pytest.mark.parametrize("golden", [*NAMES, *MASKFORMERS[:2]], indirect=True)


@at_hugging_face
def test_both_formats_hold_the_same_tensors(golden):
    one = open_checkpoint(golden.folder / "hf")
    other = open_checkpoint(golden.folder / "model_final.pkl")
    check_equal(read(one.tensors), read(other.tensors))
    assert {name: x.shape for name, x in one.tensors.items()} == parameter_shapes(one.config)


@every_model
def test_from_the_authors_format_to_ours(golden, tmp_path):
    source = convert(golden.folder / "model_final.pkl", tmp_path)
    check_same_model(open_checkpoint(tmp_path), source)


def without_unread(tensors):
    """Without those that transformers stores and no one reads."""
    unread = re.compile(r".*(encoder\.(swin|model)\.layernorm\.\w+|\.relative_position_index)")
    return {name: array for name, array in tensors.items() if not unread.fullmatch(name)}


@at_hugging_face
def test_from_hugging_face_to_ours_and_back(golden, tmp_path):
    source = convert(golden.folder / "hf", tmp_path / "ours")
    ours = open_checkpoint(tmp_path / "ours")
    check_same_model(ours, source)

    convert(tmp_path / "ours", tmp_path / "hf", "huggingface")
    back = without_unread(read_file(tmp_path / "hf" / WEIGHTS))
    if golden.name == "maskformer_r50_fpn":  # written in the way of the files on the hub
        back = {name: array for name, array in back.items() if "num_batches" not in name}
    check_equal(back, without_unread(read_file(golden.folder / "hf" / WEIGHTS)))
    check_same_model(open_checkpoint(tmp_path / "hf"), ours)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_stays_as_it_is(hugging_face, tmp_path, dtype):
    arrays = {
        name: array if "index" in name else array.astype(dtype)
        for name, array in read_file(hugging_face / WEIGHTS).items()
    }
    write_file(hugging_face / WEIGHTS, arrays)
    convert(hugging_face, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", "huggingface")
    back = read_file(tmp_path / "back" / WEIGHTS)
    back["criterion.empty_weight"] = back["criterion.empty_weight"].astype(dtype)
    check_equal(without_unread(back), without_unread(arrays))
    assert json.loads((tmp_path / "back" / CONFIG).read_text())["dtype"] == np.dtype(dtype).name


def test_tensors_that_are_joined_get_one_dtype():
    [rule] = [
        rule for rule in swin.HUGGING_FACE_RULES if rule.ours[0].endswith("attention.qkv.bias")
    ]
    dtypes = (np.float16, ml_dtypes.bfloat16, np.float16)
    theirs = {
        name: StoredTensor.of(np.full(2, i, dtype))
        for i, (name, dtype) in enumerate(zip(rule.theirs, dtypes, strict=True))
    }
    [joined] = rules.load(rule, theirs, {rule.ours[0]: (6,)}).values()
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined.read(), np.float32([0, 0, 1, 1, 2, 2]), strict=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_save_pretrained(ours, tmp_path, dtype):
    folder = tmp_path / "saved"
    Mask2Former.from_pretrained(ours, dtype).save_pretrained(folder)
    before, after = open_checkpoint(ours), open_checkpoint(folder)
    assert (before.config, before.processor) == (after.config, after.processor)
    exact = ("sampling_offsets", "attention_weights")
    rounded = {
        name: array.astype(np.float32 if any(x in name for x in exact) else jnp.dtype(dtype))
        for name, array in read(before.tensors).items()
    }
    check_equal(read(after.tensors), rounded)

    Mask2Former.from_pretrained(folder, dtype).save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)

    convert(folder, tmp_path / "hf", "huggingface")
    assert json.loads((tmp_path / "hf" / CONFIG).read_text())["dtype"] == "float32"
    check_equal(read(open_checkpoint(tmp_path / "hf").tensors), rounded)


LAYOUTS = {  # the layout, and the shapes of their tensors for any three sizes
    "same": (rules.SAME, lambda a, b, c: [(a, b, c)]),
    "transposed": (rules.TRANSPOSED, lambda a, b, _: [(a, b)]),
    "convolution": (rules.CONVOLUTION, lambda a, b, c: [(a, b, c, c)]),
    "pointwise": (rules.POINTWISE, lambda a, b, _: [(a, b, 1, 1)]),
    "fused kernels": (rules.FUSED_KERNELS, lambda a, b, _: [(3 * a, b)]),
    "fused biases": (rules.FUSED_BIASES, lambda a, _b, _c: [(3 * a,)]),
    "apart kernels": (rules.APART_KERNELS, lambda a, b, _: [(a, b)] * 3),
    "apart biases": (rules.APART_BIASES, lambda a, _b, _c: [(a,)] * 3),
    "patches": (rules.patches(2), lambda a, b, _: [(a, b, 2, 2)]),
    "larger patches": (rules.patches(4), lambda a, b, _: [(a, b, 4, 4)]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_give_back_what_they_took(name):
    layout, shapes = LAYOUTS[name]
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = shapes(*map(int, rng.integers(1, 7, size=3)))
        theirs = tuple(rng.normal(size=size).astype(np.float32) for size in sizes)
        ours = layout.load(theirs)
        back = layout.save(ours)
        for array, given in zip(back, theirs, strict=True):
            np.testing.assert_array_equal(array, given, strict=True)
        assert sum(x.size for x in ours) == sum(x.size for x in theirs)


def test_layouts_mean_what_torch_means():
    rng = np.random.default_rng(0)
    weight, image = rng.normal(size=(5, 3, 2, 2)), rng.normal(size=(3, 4, 6))
    patches = np.stack([image[:, i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2, 4)])
    want = np.einsum("pchw,ochw->po", patches, weight)
    [kernel] = rules.patches(2).load((weight,))
    np.testing.assert_allclose(patches.transpose(0, 2, 3, 1).reshape(6, -1) @ kernel, want)
    [kernel] = rules.CONVOLUTION.load((weight,))
    np.testing.assert_allclose(np.einsum("pchw,hwco->po", patches, kernel), want)

    tokens, fused = rng.normal(size=(7, 4)), rng.normal(size=(3 * 4, 4))
    for kernel, want in zip(
        rules.FUSED_KERNELS.load((fused,)), np.split(tokens @ fused.T, 3, axis=1), strict=True
    ):
        np.testing.assert_allclose(tokens @ kernel, want)


# --- every name is known -------------------------------------------------------------------------


@functools.cache
def shapes_like(config):
    return parameter_shapes(config)


def shapes_of(config):
    """As `parameter_shapes`, which would take half a second for each of 80 models."""
    if isinstance(config, VideoMask2FormerConfig):  # which has the parameters of a model of images
        config = Mask2FormerConfig(**vars(config))
    decoder = dataclasses.replace(config.decoder, num_queries=100)
    alike = dataclasses.replace(config, labels=COCO, task="panoptic", decoder=decoder)
    shapes = dict(shapes_like(alike))
    classes, queries, dim = config.num_classes + 1, config.decoder.num_queries, decoder.dim
    shapes |= {
        "decoder.heads.class_head.kernel": (dim, classes),
        "decoder.heads.class_head.bias": (classes,),
    }
    for name in {"decoder.queries", "decoder.query_positions"} & shapes.keys():
        shapes[name] = queries, dim
    return shapes


@pytest.mark.parametrize("name", PRESETS)
def test_published_models(name):
    config = PRESETS[name].config
    shapes = shapes_of(config)
    if getattr(config.pixel_decoder, "encoder_layers", 0):
        with pytest.raises(ValueError, match=r"encoder layers .* pixel_decoder\.encoder_layers 6"):
            huggingface_config.config_to_huggingface(config)
    elif getattr(config.backbone, "deeplab", False):
        with pytest.raises(ValueError, match="R101c"):
            huggingface_config.config_to_huggingface(config)
    elif "-youtubevis-" in name:
        with pytest.raises(ValueError, match="no class for a VideoMask2Former"):
            huggingface_config.config_to_huggingface(config)
    else:
        theirs = huggingface_config.config_to_huggingface(config)
        read = huggingface_config.config_from_huggingface(theirs, config.labels, config.task)
        assert read == config
        rules.expand(huggingface.table_of(config).rules, shapes)
    theirs = {}
    for rule in rules.expand(authors_tables.table_of(config).rules, shapes):
        theirs |= rules.saved_shapes(rule, shapes)
    kind = type(config)
    assert authors_tables.infer_config(theirs, config.labels, config.task, kind=kind) == config
    assert authors_tables.count_classes(theirs) == config.num_classes
    queries = config.decoder.num_queries
    assert authors_tables.count_queries(theirs) == queries
    guessed = guess_task(config.labels, queries, f"me/{name}", kind=type(config))
    assert guessed == config.task


@at_hugging_face
def test_config_of_tensors(golden):
    values = json.loads((golden.folder / "hf" / CONFIG).read_text())
    labels = numbered(len(values["id2label"]))
    expected = huggingface_config.config_from_huggingface(values, labels, "instance")
    tensors = open_tensors(golden.folder / "model_final.pkl")
    spellings = authors_tables.spellings(tensors)
    shapes = {rules.respell(name, spellings): tensor.shape for name, tensor in tensors.items()}
    config = authors_tables.infer_config(shapes, labels, "instance")
    if isinstance(expected.backbone, SwinConfig):
        rate = expected.backbone.drop_path_rate  # no tensor depends on it
        backbone = dataclasses.replace(config.backbone, drop_path_rate=rate)
        config = dataclasses.replace(config, backbone=backbone)
    assert config == expected


def test_number_of_heads(authors):
    shapes = {name: tensor.shape for name, tensor in open_checkpoint(authors).tensors.items()}
    four = open_checkpoint(authors, num_heads=4)
    assert (four.config.pixel_decoder.num_heads, four.config.decoder.num_heads) == (4, 4)
    assert four.config.pixel_decoder.num_points == 8
    assert {name: tensor.shape for name, tensor in four.tensors.items()} == shapes
    for wrong in (0, -8, 5, 64):
        with pytest.raises(ValueError, match=rf"model_final\.pkl: num_heads {wrong} doesn't"):
            open_checkpoint(authors, num_heads=wrong)


AUTHORS_SPELLINGS = {
    "distributed": [("^", "module.")],
    "MaskFormer": [(r"sem_seg_head\.pixel_decoder\.", "sem_seg_head.")],
    "without a version": [(r"\.pixel_decoder\.", ".pixel_decoder.pixel_decoder.")],
    "older": [("query_feat", "static_query")],
}
HUGGING_FACE_SPELLINGS = {
    "distributed": [("^", "module.")],
    "early": [
        (r"(module\.encoder)\.(?=embeddings|encoder)", r"\1.model."),
        (r"hidden_states_norms\.stage(\d)", lambda m: f"hidden_states_norms.{int(m[1]) - 1}"),
    ],
    "in memory": [
        (r"(module\.encoder)\.(?=embeddings|encoder)", r"\1.swin."),
        (r"attention\.self\.(?=relative_position)", "attention.relative_position_bias."),
        (r"attention\.self\.(query|key|value)", lambda m: f"attention.{m[1][0]}_proj"),
        (r"attention\.output\.dense", "attention.o_proj"),
        (r"(swin.*\.)intermediate\.dense", r"\1mlp.fc1"),
        (r"(swin.*\.)output\.dense", r"\1mlp.fc2"),
    ],
}


def respell(arrays, spellings):
    result = {}
    for original, array in arrays.items():
        name = original
        for pattern, replacement in spellings:
            name = re.sub(pattern, replacement, name)
        result[name] = array
    for pattern, _ in spellings:
        assert any(re.search(pattern, name) for name in arrays) or pattern.startswith("(swin"), (
            pattern
        )
    return result


@pytest.mark.parametrize("spelling", AUTHORS_SPELLINGS)
def test_spellings_of_the_authors(authors, tmp_path, spelling):
    arrays = respell(read_file(authors), AUTHORS_SPELLINGS[spelling])
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays}))
    check_same_model(open_checkpoint(path), open_checkpoint(authors))


@pytest.mark.parametrize("spelling", HUGGING_FACE_SPELLINGS)
def test_spellings_of_hugging_face(hugging_face, spelling):
    before = open_checkpoint(hugging_face)
    tensors = read(before.tensors)
    arrays = respell(read_file(hugging_face / WEIGHTS), HUGGING_FACE_SPELLINGS[spelling])
    write_file(hugging_face / WEIGHTS, arrays)
    after = open_checkpoint(hugging_face)
    assert after.config == before.config
    check_equal(read(after.tensors), tensors)


def test_two_spellings_at_once(hugging_face):
    arrays = read_file(hugging_face / WEIGHTS)
    arrays |= respell({"class_predictor.bias": arrays["class_predictor.bias"]}, [("^", "module.")])
    write_file(hugging_face / WEIGHTS, arrays)
    with pytest.raises(ValueError, match=r"hf/model.safetensors holds class_predictor.bias twice"):
        open_checkpoint(hugging_face)


def test_tables_with_mistakes():
    parameters = ["a.scale", "a.bias", "b.0.kernel"]
    table = (*rules.norm("x", "a"), *rules.kernel("y.{}", "b.{}"))
    assert [rule.theirs for rule in rules.expand(table, parameters)] == [
        ("x.weight",),
        ("x.bias",),
        ("y.0.weight",),
    ]
    for wrong, name in (
        (table[1:], "a.scale"),
        ((*table, *rules.norm("z", "a")), "a.bias, a.scale"),
        ((*table[:2], *rules.kernel("x", "b.{}")), "x.weight"),
        ((*table[:2], *rules.fused_attention("z", "b.{}")), r"b\.0\.kernel"),
    ):
        with pytest.raises(KeyError, match=f"doesn't name these exactly once: {name}"):
            rules.expand(wrong, parameters)


# --- what doesn't fit is named -------------------------------------------------------------------


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
    *("num_heads", "num_queries", "dim", "feature_size", "stem_dim", "hidden_sizes"),
}


@pytest.mark.parametrize("name", ["tiny_w4_aligned", "r50_tiny"])
def test_odd_values_in_every_field_of_hugging_faces_config(name):
    values = json.loads((GOLDEN / name / "hf" / CONFIG).read_text())

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


# --- names of classes, and names of tensors ------------------------------------------------------


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
    assert "--labels cityscapes, coco, coco-stuff, ade20k, ade20k-full, mapillary or FILE" in said
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


# --- converting leaves no mess -------------------------------------------------------------------


def test_nothing_is_overwritten_by_accident(authors, ours, tmp_path):
    before = contents(ours)
    with pytest.raises(FileExistsError, match=rf"{ours} holds a model already"):
        convert(authors, ours)
    assert contents(ours) == before
    part = tmp_path / "part"
    part.mkdir()
    (part / WEIGHTS).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=rf"already \({WEIGHTS}\)"):
        convert(authors, part, "huggingface")
    assert contents(part) == {WEIGHTS: b"precious"}


def test_overwriting_on_purpose(ours, other):
    assert set(contents(ours)) == {CONFIG, WEIGHTS, PROCESSOR}
    ImageProcessor(shortest_edge=64).save_pretrained(ours)
    convert(other, ours, overwrite=True)
    check_same_model(open_checkpoint(ours), open_checkpoint(other))
    assert set(contents(ours)) == {CONFIG, WEIGHTS, PROCESSOR}


def test_converting_a_folder_in_place(hugging_face):
    before = open_checkpoint(hugging_face)
    tensors = read(before.tensors)
    convert(hugging_face, hugging_face, overwrite=True)
    after = open_checkpoint(hugging_face)
    assert after.config == before.config
    check_equal(read(after.tensors), tensors)


def test_a_damaged_source_leaves_the_target_alone(hugging_face, ours):
    before = contents(ours)
    weights = hugging_face / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"hf/model.safetensors is .*damaged"):
        convert(hugging_face, ours, overwrite=True)
    assert contents(ours) == before


@pytest.mark.parametrize("to", ["m2f_jax", "huggingface"])
def test_failing_half_way_leaves_the_target_alone(ours, other, monkeypatch, to):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "disk full")

    before = contents(ours)
    name = "m2f_jax.inference.processor.ImageProcessor.save_pretrained"
    monkeypatch.setattr(name if to == "m2f_jax" else "pathlib.Path.write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        convert(other, ours, to, overwrite=True)
    assert contents(ours) == before

    checkpoint = open_checkpoint(ours)
    checkpoint.tensors["decoder.queries"] = dataclasses.replace(
        checkpoint.tensors["decoder.queries"], read=fail
    )
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(checkpoint, ours)
    assert contents(ours) == before


def test_unknown_formats(authors, tmp_path):
    with pytest.raises(ValueError, match=r"to is one of \('m2f_jax', 'huggingface'\), not 'onnx'"):
        inspect.unwrap(convert)(authors, tmp_path / "new", "onnx")  # without type checks
    assert not (tmp_path / "new").exists()


def test_architectures_that_transformers_lacks(authors, tmp_path):
    with pytest.raises(ValueError, match="always 4 points; this model has 4 and 4 heads and 8"):
        convert(authors, tmp_path / "new", "huggingface", num_heads=4)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("pixel_decoder", FPNPixelDecoderConfig(), "pixel_decoder is of the type 'fpn'"),
        ("decoder", TransformerDecoderConfig(masked=False), "decoder.masked false"),
    ],
)
def test_ablations_that_transformers_lacks(field, change, message):
    config = dataclasses.replace(preset("swin-tiny-coco-instance").config, **{field: change})
    with pytest.raises(ValueError, match=message):
        huggingface_config.config_to_huggingface(config)


# --- labels, task and processor ------------------------------------------------------------------


def names_of(labels):
    return [label.name for label in labels]


@pytest.mark.parametrize("labels", [things(CITYSCAPES), CITYSCAPES, things(COCO), COCO, ADE20K])
def test_published_classes_are_known_by_name(labels):
    assert adopt_labels(names_of(labels)) == labels
    spelled = [name.split(",")[0].upper().replace(" ", "_") for name in names_of(labels)]
    assert adopt_labels(spelled) == labels


def test_classes_of_ones_own():
    assert adopt_labels(["cat", "dog"]) == tuple(
        dataclasses.replace(label, name=name)
        for label, name in zip(numbered(2), ["cat", "dog"], strict=True)
    )
    labels = adopt_labels([f"LABEL_{k}" for k in range(19)])  # as many as Cityscapes by chance
    assert names_of(labels) == [f"LABEL_{k}" for k in range(19)]
    assert all(label.is_thing for label in labels)


@pytest.mark.parametrize(
    ("labels", "num_queries", "name", "origin", "task"),
    [
        (things(COCO), 100, "model_final.pkl", "", "instance"),
        (COCO, 100, "model_final.pkl", "", "panoptic"),
        (CITYSCAPES, 100, "model_final.pkl", "", "panoptic"),
        (CITYSCAPES, 100, "Cityscapes-Semantic", "", "semantic"),
        (ADE20K, 100, "model_final.pkl", "", "semantic"),
        (ADE20K, 200, "model_final.pkl", "", "panoptic"),
        (MAPILLARY_VISTAS, 100, "model_final.pkl", "", "semantic"),
        (MAPILLARY_VISTAS, 200, "model_final.pkl", "", "panoptic"),
        (COCO_STUFF, 171, "model_final.pkl", "", "semantic"),
        (ADE20K_FULL, 100, "model_final.pkl", "", "semantic"),
        (ADE20K, 100, "hf", "facebook/mask2former-swin-large-ade-panoptic", "panoptic"),
        (numbered(3), 100, "roads-semantic", "", "semantic"),
        (numbered(3), 100, "roads", "facebook/mask2former-swin-tiny-ade-semantic", "instance"),
        (ADE20K, 100, "panoptic/ade-instance", "", "instance"),
    ],
)
def test_task(labels, num_queries, name, origin, task):
    assert guess_task(labels, num_queries, name, origin) == task


def test_task_by_choice(authors, hugging_face):
    assert open_checkpoint(authors, task="semantic").config.task == "semantic"
    assert open_checkpoint(hugging_face, task="panoptic").config.task == "panoptic"


SQUARE = {  # as the published checkpoints store it
    "image_processor_type": "Mask2FormerImageProcessor",
    "_max_size": 2048,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "size": {"height": 384, "width": 384},
    "size_divisor": 32,
    "rescale_factor": 0.00392156862745098,
    "image_mean": [0.48500001430511475, 0.4560000002384186, 0.4059999883174896],
    "image_std": [0.2290000021457672, 0.2239999920129776, 0.22499999403953552],
    "reduce_labels": False,
    "num_labels": 8,
}


@pytest.fixture
def cityscapes(tmp_path):
    """A Hugging Face folder with the classes of a published model."""
    folder = shutil.copytree(GOLDEN / "tiny_w7_odd" / "hf", tmp_path / "cityscapes")
    names = names_of(things(CITYSCAPES))
    edit(folder / CONFIG, {"id2label": {str(k): name for k, name in enumerate(names)}})
    return folder


def test_published_models_are_used_at_the_size_that_they_were_tested_at(cityscapes, caplog):
    (cityscapes / PROCESSOR).write_text(json.dumps(SQUARE))
    checkpoint = open_checkpoint(cityscapes)
    processor = checkpoint.processor
    assert checkpoint.config.labels == things(CITYSCAPES)
    assert processor == ImageProcessor.for_model(checkpoint.config)
    assert (processor.shortest_edge, processor.longest_edge) == (1024, 2048)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert str(cityscapes / PROCESSOR) in record.getMessage()
    assert "shortest edge 1024 and longest 2048" in record.getMessage()


def test_no_warning_where_the_sizes_agree(cityscapes, caplog):
    size = {"shortest_edge": 1024, "longest_edge": 2048}
    (cityscapes / PROCESSOR).write_text(json.dumps(SQUARE | {"size": size}))
    open_checkpoint(cityscapes)
    (cityscapes / PROCESSOR).unlink()
    open_checkpoint(cityscapes)
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (384, 2048)),
        ({"size": {"shortest_edge": 512}}, (512, 2048)),
        ({"size": {"shortest_edge": 512, "longest_edge": 800}}, (512, 800)),
        ({"size": {"height": 640, "width": 480}, "_max_size": ...}, (480, None)),
        ({"size": 480, "max_size": 900}, (480, 900)),  # of early versions
        ({"size": {"shortest_edge": 480, "longest_edge": None}}, (480, 2048)),
        ({"size": ...}, (None, 2048)),
        ({"do_resize": False}, (None, 2048)),
    ],
)
def test_models_of_ones_own_keep_their_size(hugging_face, caplog, changes, size):
    (hugging_face / PROCESSOR).write_text(json.dumps(SQUARE))
    edit(hugging_face / PROCESSOR, changes)
    processor = open_checkpoint(hugging_face).processor
    assert (processor.shortest_edge, processor.longest_edge) == size
    assert processor.mean == (123.675, 116.28, 103.53)
    assert processor.std == (58.395, 57.12, 57.375)
    assert processor.size_divisor == 32
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_normalize": False}, "do_normalize is False"),
        ({"rescale_factor": 1}, "rescale_factor is 1"),
        ({"size": {"height": "384"}}, "size: height has the value '384'; expected int"),
        ({"size": "384"}, "size: shortest_edge has the value '384'; expected int"),
        ({"max_size": 0.5}, "max_size has the value 0.5; expected int"),
        ({"image_mean": 0.5}, "image_mean needs a list, not 0.5"),
        ({"size_divisor": None}, "size_divisor has the value None; expected int"),
    ],
)
def test_processors_that_make_no_sense(hugging_face, changes, message):
    (hugging_face / PROCESSOR).write_text(json.dumps(SQUARE | changes))
    with pytest.raises(ValueError, match=rf"hf/{PROCESSOR}: {message}"):
        open_checkpoint(hugging_face)


@pytest.mark.parametrize("shortest", [None, 480])
@pytest.mark.parametrize("longest", [None, 1333])
def test_processors_survive_hugging_faces_form(shortest, longest):
    processor = ImageProcessor(
        shortest_edge=shortest, longest_edge=longest, mean=(1.0, 2.5, 3.0), size_divisor=16
    )
    values = huggingface_config.processor_to_huggingface(processor, MICRO)
    default = ImageProcessor(shortest_edge=7, longest_edge=7)
    assert huggingface_config.processor_from_huggingface(values, default, "") == processor


# --- against transformers ------------------------------------------------------------------------


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


@pytest.mark.torch
def test_transformers_loads_what_we_write(golden, tmp_path, transformers):
    import torch

    convert(golden.folder / "model_final.pkl", tmp_path, "huggingface")
    model, info = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    with torch.no_grad():
        output = model(torch.tensor(golden.network["pixel_values"]))
    for array, name, tolerance in (
        (output.class_queries_logits, "class_logits", 3e-4),
        (output.masks_queries_logits, "mask_logits", 5e-4),
    ):
        np.testing.assert_allclose(array, golden.network[name][-1], rtol=0, atol=tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("shortest", [None, 64])
@pytest.mark.parametrize("longest", [None, 80])
def test_transformers_loads_our_processors(tmp_path, transformers, shortest, longest):
    processor = ImageProcessor(shortest_edge=shortest, longest_edge=longest)
    values = huggingface_config.processor_to_huggingface(processor, MICRO)
    (tmp_path / PROCESSOR).write_text(json.dumps(values))
    theirs = transformers.Mask2FormerImageProcessorPil.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    array = theirs(image, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    ours = processor(image).pixel_values
    if shortest is None:  # then it doesn't pad
        np.testing.assert_allclose(array, ours[:, :40, :60], atol=1e-5)
    else:
        assert array.shape == ours.shape


@pytest.mark.torch
def test_names_of_transformers(tmp_path, transformers):
    """Those that it writes and those that it has in memory, of as many classes as it assumes."""
    swin = transformers.SwinConfig(
        embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2], window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=16, hidden_dim=32, num_queries=4,
        encoder_layers=2, decoder_layers=3, encoder_feedforward_dim=8, dim_feedforward=12,
    )  # fmt: skip
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    model.save_pretrained(tmp_path)
    saved = open_checkpoint(tmp_path)
    assert names_of(saved.config.labels) == ["LABEL_0", "LABEL_1"]
    assert saved.config.decoder.num_layers == 2
    tensors = read(saved.tensors)
    names = read_file(tmp_path / WEIGHTS).keys()
    in_memory = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert in_memory.keys() != names
    write_file(tmp_path / WEIGHTS, in_memory)
    check_equal(read(open_checkpoint(tmp_path).tensors), tensors)
