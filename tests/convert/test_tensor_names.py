"""Every name is known: of published models, and in other spellings."""

import dataclasses
import functools
import hashlib
import json
import pickle
import shutil

import pytest
from m2f_jax.convert import open_checkpoint
from m2f_jax.convert.files.formats import open_tensors
from m2f_jax.convert.guessing import guess_task
from m2f_jax.convert.tables import authors as authors_tables
from m2f_jax.convert.tables import rules
from m2f_jax.convert.tables.huggingface import config as huggingface_config
from m2f_jax.convert.tables.huggingface import tensors as huggingface

from m2f_jax import Mask2Former
from m2f_jax.config import Mask2FormerConfig, SwinConfig, VideoMask2FormerConfig
from m2f_jax.labels import COCO, numbered
from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.presets import PRESETS
from tests.conftest import GOLDEN
from tests.convert.conftest import (
    CONFIG,
    WEIGHTS,
    at_hugging_face,
    check_equal,
    check_same_model,
    edit,
    read,
    read_file,
    respell,
    write_file,
)


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


@pytest.mark.parametrize(
    ("name", "count", "digest"),
    [
        ("maskformer-resnet50-ade", 409, "703be6e484c4dd5a"),
        ("maskformer-resnet50-coco", 481, "5392153236aa9486"),
        ("maskformer-resnet101c-cityscapes", 674, "7d56d73e188d2405"),
        ("maskformer-swin-base-ade", 477, "58e90511ae644d5d"),
        ("maskformer-swin-large-coco", 477, "0770f7d44c88c8a9"),
    ],
)
def test_names_and_shapes_are_those_of_the_authors_networks(name, count, digest):
    """Of which a digest is kept, of all that isn't computed; the projection in one place."""
    config = PRESETS[name].config
    shapes = shapes_of(config)
    theirs = {}
    for rule in rules.expand(authors_tables.table_of(config).rules, shapes):
        theirs |= rules.saved_shapes(rule, shapes)
    lines = "\n".join(f"{tensor} {list(shape)}" for tensor, shape in sorted(theirs.items()))
    assert len(theirs) == count
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == digest


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


MASKFORMER_SPELLINGS = {
    "newer, not twice": [(r"sem_seg_head\.(?=adapter|layer|mask)", "sem_seg_head.pixel_decoder.")],
    "without a version": [
        (r"sem_seg_head\.(?=adapter|layer|mask)", "sem_seg_head.pixel_decoder.pixel_decoder.")
    ],
    "projected in the pixel decoder": [(r"predictor\.input_proj", "pixel_decoder.input_proj")],
}


@pytest.mark.parametrize("spelling", MASKFORMER_SPELLINGS)
def test_spellings_of_a_maskformer(tmp_path, spelling):
    file = GOLDEN / "maskformer_swin" / "model_final.pkl"
    path = tmp_path / "model_final.pkl"
    arrays = respell(read_file(file), MASKFORMER_SPELLINGS[spelling])
    path.write_bytes(pickle.dumps({"model": arrays}))
    check_same_model(open_checkpoint(path), open_checkpoint(file))


def test_older_names_of_encoder_layers(tmp_path):
    file = GOLDEN / "maskformer_r50" / "model_final.pkl"
    path = tmp_path / "model_final.pkl"
    arrays = respell(read_file(file), [(r"sem_seg_head\.pixel_decoder\.", "sem_seg_head.")])
    assert "sem_seg_head.transformer.encoder.layers.1.linear1.weight" in arrays
    path.write_bytes(pickle.dumps({"model": arrays}))
    check_same_model(open_checkpoint(path), open_checkpoint(file))


def test_a_maskformer_as_in_transformers_memory(tmp_path):
    source = GOLDEN / "maskformer_swin" / "hf"
    folder = shutil.copytree(source, tmp_path / "hf")
    layer = r"(decoder\.layers\.\d+)\."
    spellings = [(rf"{layer}(\w+)\.out_proj", r"\1.\2.o_proj"), (rf"{layer}fc", r"\1.mlp.fc")]
    write_file(folder / WEIGHTS, respell(read_file(folder / WEIGHTS), spellings))
    backbone = json.loads((folder / CONFIG).read_text())["backbone_config"]
    edit(folder / CONFIG, {"backbone_config": backbone | {"model_type": "maskformer-swin"}})
    check_same_model(open_checkpoint(folder), open_checkpoint(source))


def test_models_of_another_kind_are_refused_by_name():
    message = "is a MaskFormer, not a Mask2Former; open it with m2f_jax.MaskFormer"
    for source in ("hf", "model_final.pkl"):
        with pytest.raises(ValueError, match=message):
            Mask2Former.from_pretrained(GOLDEN / "maskformer_swin" / source)


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
