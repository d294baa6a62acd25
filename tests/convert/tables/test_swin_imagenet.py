"""Backbones trained on ImageNet: each bit arrives, the rest is fresh, what doesn't fit is named."""

import dataclasses
import io
import json
import pickle
import re

import jax.numpy as jnp
import numpy as np
import pytest
from m2f_jax.convert import open_backbone
from m2f_jax.convert.files.formats import StoredTensor, open_tensors, write_safetensors
from m2f_jax.convert.tables.backbones import swin
from m2f_jax.convert.tables.imagenet import swin as swin_imagenet
from m2f_jax.convert.tables.rules import expand, save, saved_shapes
from rich.console import Console

from m2f_jax.cli.arguments import Train
from m2f_jax.cli.commands.train import first_model
from m2f_jax.labels import numbered
from m2f_jax.modeling.parameters import parameter_shapes, parameters
from m2f_jax.presets import PRESETS
from m2f_jax.pretrained import start_from
from m2f_jax.training.initialize import initialize
from m2f_jax.training.recipes import recipe
from tests.conftest import MICRO

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHAPES = parameter_shapes(MICRO)
BACKBONE = [name for name in SHAPES if swin_imagenet.is_pretrained(name)]
PLAIN = {  # MICRO's backbone, in transformers' words
    "embed_dim": 4,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 3,
    "mlp_ratio": 1.0,
}


@pytest.fixture(scope="module")
def ours():
    """A backbone's parameters, all different."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=SHAPES[name]).astype(np.float32) for name in BACKBONE}


def saved(ours, form, shapes=SHAPES):
    """Our parameters under their names."""
    held = {name: StoredTensor.of(array) for name, array in ours.items()}
    result = {}
    for rule in expand(form.rules, filter(swin_imagenet.is_pretrained, shapes)):
        result |= {name: np.array(x.read()) for name, x in save(rule, held).items()}
    return result


@pytest.fixture
def authors(ours):
    """What a file of the Swin authors holds, with all that no one needs here."""
    return saved(ours, swin_imagenet.AUTHORS) | {
        "layers.0.blocks.0.attn.relative_position_index": np.zeros((9, 9), np.int64),
        "layers.1.blocks.0.attn_mask": np.zeros((4, 9, 9), np.float32),
        "norm.weight": np.ones(32, np.float32),
        "norm.bias": np.zeros(32, np.float32),
        "head.weight": np.ones((5, 32), np.float32),
        "head.bias": np.zeros(5, np.float32),
    }


@pytest.fixture
def hugging_face(ours):
    return saved(ours, swin_imagenet.HUGGING_FACE) | {
        "encoder.layers.0.blocks.0.attention.self.relative_position_index": np.zeros(
            (9, 9), np.int64
        ),
        "layernorm.weight": np.ones(32, np.float32),
        "layernorm.bias": np.zeros(32, np.float32),
    }


def write_folder(folder, arrays, **changes):
    """A folder of Hugging Face's."""
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"model_type": "swin", **PLAIN, **changes}))
    tensors = {name: StoredTensor.of(array) for name, array in arrays.items()}
    write_safetensors(folder / WEIGHTS, tensors, {})
    return folder


def write_pickle(path, arrays):
    """A file as detectron2 takes it."""
    content = {"model": arrays, "__author__": "third_party", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))
    return path


def check_backbone(source, ours):
    tensors = open_backbone(source, MICRO)
    assert tensors is not None
    assert tensors.keys() == ours.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.read(), ours[name], strict=True, err_msg=name)


# --- every bit arrives ---------------------------------------------------------------------------


def test_the_authors_names(ours, authors, tmp_path):
    for name in (
        "patch_embed.proj.weight",
        "layers.0.blocks.0.attn.qkv.weight",
        "layers.3.blocks.0.attn.relative_position_bias_table",
        "layers.0.downsample.reduction.weight",
    ):
        assert name in authors
    check_backbone(write_pickle(tmp_path / "swin_micro.pkl", authors), ours)


def test_the_authors_names_are_those_in_their_mask2former(tiny):
    names = open_tensors(tiny.folder / "model_final.pkl").keys()
    plain = {name.removeprefix("backbone.") for name in names if name.startswith("backbone.")}
    shapes = parameter_shapes(tiny.model.config)
    rules = expand(swin_imagenet.AUTHORS.rules, filter(swin_imagenet.is_pretrained, shapes))
    known = {name for rule in rules for name in rule.theirs}
    norms = {f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}
    index = {name for name in plain if name.endswith(".relative_position_index")}
    assert plain == known | norms | index


@pytest.mark.parametrize("prefix", ["", "swin.", "module.swin."])
def test_hugging_faces_names(ours, hugging_face, tmp_path, prefix):
    arrays = {prefix + name: array for name, array in hugging_face.items()}
    if prefix:
        arrays |= {"classifier.weight": np.ones((2, 32)), "classifier.bias": np.ones(2)}
    check_backbone(write_folder(tmp_path / "hf", arrays), ours)


def test_names_in_transformers_memory(ours, hugging_face, tmp_path):
    spellings = (
        (r"attention\.self\.(?=relative_position)", "attention.relative_position_bias."),
        (r"attention\.self\.(query|key|value)", lambda m: f"attention.{m[1][0]}_proj"),
        (r"attention\.output\.dense", "attention.o_proj"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"output\.dense", "mlp.fc2"),
    )
    arrays = {}
    for original, array in hugging_face.items():
        name = original
        for pattern, replacement in spellings:
            name = re.sub(pattern, replacement, name)
        arrays[name] = array
    assert arrays.keys() != hugging_face.keys()
    check_backbone(write_folder(tmp_path / "hf", arrays), ours)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_every_published_architecture_has_rules(size):
    backbone = PRESETS[f"swin-{size}-coco-panoptic"].config.backbone
    shapes = parameter_shapes(dataclasses.replace(MICRO, backbone=backbone))
    for form in (swin_imagenet.AUTHORS, swin_imagenet.HUGGING_FACE):
        rules = expand(form.rules, filter(swin_imagenet.is_pretrained, shapes))
        theirs = {}
        for rule in rules:
            theirs |= saved_shapes(rule, shapes)
        found = swin_imagenet.sizes(theirs, form.rules)
        assert len(found) == 4
        swin_imagenet.check_sizes(found, backbone)


# --- a model to train ----------------------------------------------------------------------------


def test_everything_but_the_backbone_is_fresh(ours, authors, tmp_path):
    source = write_pickle(tmp_path / "swin_micro.pkl", authors)
    model, fresh = start_from(source, MICRO, 5, "float32")
    assert fresh == [name for name in SHAPES if name not in ours]
    assert "backbone.norms.0.scale" in fresh
    assert "decoder.heads.class_head.kernel" in fresh
    drawn = parameters(initialize(MICRO, 5))
    expected = ours | {name: np.asarray(drawn[name][...]) for name in fresh}
    for name, value in parameters(model).items():
        np.testing.assert_array_equal(value[...], expected[name], strict=True, err_msg=name)
    for i in range(4):
        assert (expected[f"backbone.norms.{i}.scale"] == 1).all()
        assert (expected[f"backbone.norms.{i}.bias"] == 0).all()


def test_parameters_are_float32_whatever_the_file_holds(authors, tmp_path):
    half = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in authors.items()
    }
    model, _ = start_from(write_pickle(tmp_path / "half.pkl", half), MICRO, 0, "bfloat16")
    assert {value[...].dtype.name for value in parameters(model).values()} == {"float32"}


def test_a_whole_model_is_no_backbone(tiny, tmp_path):
    for name in ("model_final.pkl", "hf"):
        assert open_backbone(tiny.folder / name, MICRO) is None
    assert open_backbone(tmp_path, MICRO) is None  # `open_checkpoint` says what it lacks
    config = tiny.model.config
    _, fresh = start_from(tiny.folder / "model_final.pkl", config, 0, "float32")
    assert fresh == []
    other = dataclasses.replace(config, labels=numbered(config.num_classes + 1))
    _, fresh = start_from(tiny.folder / "model_final.pkl", other, 0, "float32")
    head = "decoder.heads.class_head"
    assert sorted(fresh) == [f"{head}.bias", f"{head}.kernel"]
    with pytest.raises(ValueError, match="choose the recipe of the same architecture"):
        start_from(tiny.folder / "model_final.pkl", MICRO, 0, "float32")


def test_the_command_line_says_it_in_a_line(authors, tmp_path):
    source = write_pickle(tmp_path / "swin_micro.pkl", authors)
    streets = recipe("streets")
    chosen = dataclasses.replace(streets, train=dataclasses.replace(streets.train, model=MICRO))
    command = Train(recipe="streets", data="data", out="out", from_=str(source))
    written = io.StringIO()
    first_model(chosen, command, Console(file=written, soft_wrap=True))
    assert written.getvalue() == (
        f"{source} is a backbone alone; everything but the backbone starts afresh, and so do the "
        "norms of its outputs\n"
    )


# --- what doesn't fit is named -------------------------------------------------------------------


def problems(caught):
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("form", ["authors", "hugging_face"])
def test_all_that_does_not_fit_in_one_message(request, tmp_path, form):
    arrays = request.getfixturevalue(form)
    missing, turned, counted = {
        "authors": (
            "layers.0.downsample.reduction.weight",
            "layers.0.blocks.0.attn.qkv.weight",
            "layers.2.blocks.0.norm1.bias",
        ),
        "hugging_face": (
            "encoder.layers.0.downsample.reduction.weight",
            "encoder.layers.0.blocks.0.attention.self.key.weight",
            "encoder.layers.2.blocks.0.layernorm_before.bias",
        ),
    }[form]
    extra = "layers.3.downsample.reduction.weight"  # where timm's new names have it
    arrays[extra] = arrays.pop(missing)
    need = list(arrays[turned].shape)
    arrays[turned] = arrays[turned][1:]
    arrays[counted] = arrays[counted].astype(np.int64)
    if form == "authors":
        source = path = write_pickle(tmp_path / "swin_micro.pkl", arrays)
    else:
        source = write_folder(tmp_path / "hf", arrays)
        path = source / WEIGHTS
    with pytest.raises(ValueError, match=re.escape(f"{path} isn't, or isn't all of, a Swin")) as e:
        start_from(source, MICRO, 0, "float32")
    assert problems(e) == [
        f"missing: {missing}",
        f"unexpected: {extra} {list(arrays[extra].shape)}",
        f"shape: {turned} is {list(arrays[turned].shape)}, the model needs {need}",
        f"numbers: {counted} is int64, the model needs floats",
    ]


def test_absolute_positions_are_no_swin_of_ours(authors, hugging_face, tmp_path):
    authors["absolute_pos_embed"] = np.zeros((1, 64, 4), np.float32)
    with pytest.raises(ValueError, match=r"unexpected: absolute_pos_embed \[1, 64, 4\]"):
        open_backbone(write_pickle(tmp_path / "swin_micro.pkl", authors), MICRO)
    folder = write_folder(tmp_path / "hf", hugging_face, use_absolute_embeddings=True)
    with pytest.raises(ValueError, match=r"hf/config\.json: use_absolute_embeddings is True"):
        open_backbone(folder, MICRO)


def test_a_lacking_table_is_named(authors, tmp_path):
    name = "layers.2.blocks.0.attn.relative_position_bias_table"
    del authors[name]
    with pytest.raises(ValueError, match="isn't, or isn't all of, a Swin") as caught:
        open_backbone(write_pickle(tmp_path / "swin_micro.pkl", authors), MICRO)
    assert problems(caught) == [f"missing: {name}"]


def with_backbone(**changes):
    return dataclasses.replace(MICRO, backbone=dataclasses.replace(MICRO.backbone, **changes))


@pytest.mark.parametrize("form", ["authors", "hugging_face"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"window_size": 4},
            "has window_size 3, and the model needs window_size 4; windows of another size have "
            "tables of relative positions of other shapes, which aren't interpolated",
        ),
        ({"embed_dim": 8}, "has embed_dim 4, and the model needs embed_dim 8"),
        (
            {"embed_dim": 8, "num_heads": (1, 2, 4, 8)},
            "has embed_dim 4, num_heads (1, 1, 2, 2), and the model needs embed_dim 8, num_heads "
            "(1, 2, 4, 8)",
        ),
        (
            {"depths": (1, 1, 3, 1)},
            "has depths (1, 1, 1, 1), and the model needs depths (1, 1, 3, 1)",
        ),
    ],
)
def test_other_architectures(request, tmp_path, form, changes, message):
    arrays = request.getfixturevalue(form)
    if form == "authors":
        source = path = write_pickle(tmp_path / "swin_micro.pkl", arrays)
    else:
        source = write_folder(tmp_path / "hf", arrays)
        path = source / WEIGHTS
    expected = f"{path}: the backbone in it {message}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        start_from(source, with_backbone(**changes), 0, "float32")


def test_another_width_of_the_mlp(authors, tmp_path):
    source = write_pickle(tmp_path / "swin_micro.pkl", authors)
    with pytest.raises(ValueError, match=r"mlp\.fc1\.weight is \[4, 4\], the model needs \[8, 4\]"):
        open_backbone(source, with_backbone(mlp_ratio=2.0))


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("swin-tiny-coco-instance", "swin_tiny_patch4_window7_224"),
        ("swin-small-coco-instance", "swin_small_patch4_window7_224"),
        ("swin-base-coco-instance", "swin_base_patch4_window12_384_22k"),
        ("swin-large-cityscapes-instance", "swin_large_patch4_window12_384_22k"),
    ],
)
def test_the_right_file_is_named(preset, name):
    backbone = PRESETS[preset].config.backbone
    assert swin_imagenet.published_name(backbone) == name
    found = {"window_size": 19 - backbone.window_size}
    hub = "microsoft/" + name.replace("_", "-").replace("22k", "in22k")
    with pytest.raises(ValueError, match=f"; take one such as {name}.pth, or {hub}$"):
        swin_imagenet.check_sizes(found, backbone)


def test_no_file_is_named_where_there_is_none():
    assert swin_imagenet.published_name(MICRO.backbone) is None
    tiny = PRESETS["swin-tiny-coco-instance"].config.backbone
    for changes in ({"window_size": 12}, {"window_size": 8}, {"depths": (2, 2, 4, 2)}):
        assert swin_imagenet.published_name(dataclasses.replace(tiny, **changes)) is None


def test_two_spellings_at_once(authors, tmp_path):
    authors["module.norm.weight"] = authors["norm.weight"]
    with pytest.raises(ValueError, match=r"swin_micro\.pkl holds norm\.weight twice"):
        open_backbone(write_pickle(tmp_path / "swin_micro.pkl", authors), MICRO)


def test_folders_without_weights(hugging_face, tmp_path):
    folder = write_folder(tmp_path / "hf", hugging_face)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"hf has no model\.safetensors or"):
        start_from(folder, MICRO, 0, "float32")


def test_code_in_a_pickle_is_not_run(authors, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    source = write_pickle(tmp_path / "swin_micro.pkl", authors | {"evil": Evil()})
    with pytest.raises(ValueError, match=r"asks for builtins\.print"):
        start_from(source, MICRO, 0, "float32")


# --- against transformers ------------------------------------------------------------------------


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


def swin_config(transformers, **changes):
    """Like MICRO's, with shifted windows too."""
    return transformers.SwinConfig(**{**PLAIN, "depths": [2, 1, 2, 1], "image_size": 96, **changes})


def randomize(model):
    """Draws all parameters anew: fresh ones are mostly ones and zeros."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            one = name.endswith("weight") and parameter.ndim == 1
            parameter.copy_(one + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def maps_before_norms(backbone, images):
    """The embedded patches, then what each stage hands on: merged, but for the last."""
    maps = [backbone.patch_embedding(images)]
    for i, stage in enumerate(backbone.stages):
        scales = jnp.ones((len(stage.blocks), 2, len(images)))
        x = stage(maps[-1], scales, remat=False)
        maps.append(backbone.merges[i](x) if i < 3 else x)
    return maps


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["SwinModel", "SwinForImageClassification"])
@pytest.mark.parametrize("file", ["safetensors", "bin", "memory"])
def test_features_equal_transformers(tmp_path, transformers, run, kind, file):
    import torch

    torch.set_num_threads(1)
    theirs = randomize(getattr(transformers, kind)(swin_config(transformers)))
    theirs.save_pretrained(tmp_path)
    if file == "bin":
        arrays = {name: x.read() for name, x in open_tensors(tmp_path / WEIGHTS).items()}
        state = {name: torch.tensor(array) for name, array in arrays.items()}
        torch.save(state, tmp_path / "pytorch_model.bin")
    if file == "memory":
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    if file != "safetensors":
        (tmp_path / WEIGHTS).unlink()
    model, fresh = start_from(tmp_path, with_backbone(depths=(2, 1, 2, 1)), 0, "float32")
    assert not set(fresh) & set(BACKBONE)

    # At stride 32 there is more than a window: transformers shrinks windows to fit, we pad.
    images = np.random.default_rng(0).normal(size=(2, 132, 170, 3)).astype(np.float32)
    with torch.no_grad():
        output = theirs(torch.tensor(images.transpose(0, 3, 1, 2)), output_hidden_states=True)
    maps = run(maps_before_norms, model.backbone, images)
    assert len(output.reshaped_hidden_states) == len(maps) == 5
    for want, found in zip(output.reshaped_hidden_states, maps, strict=True):
        np.testing.assert_allclose(found, want.permute(0, 2, 3, 1), rtol=0, atol=1e-4)


@pytest.mark.torch
def test_outputs_equal_transformers_backbone(tmp_path, transformers, run):
    """Its norms of the outputs are fresh too: ones and zeros."""
    import torch

    config = swin_config(transformers)
    theirs = randomize(transformers.SwinModel(config))
    theirs.save_pretrained(tmp_path)
    model, _ = start_from(tmp_path, with_backbone(depths=(2, 1, 2, 1)), 0, "float32")

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.SwinBackbone.from_pretrained(tmp_path, out_features=stages).eval()
    images = np.random.default_rng(0).normal(size=(1, 70, 100, 3)).astype(np.float32)
    with torch.no_grad():
        output = backbone(torch.tensor(images.transpose(0, 3, 1, 2)))
    features = run(lambda backbone, images: backbone(images), model.backbone, images)
    for want, found in zip(output.feature_maps, features, strict=True):
        np.testing.assert_allclose(found, want.permute(0, 2, 3, 1), rtol=0, atol=1e-4)


@pytest.mark.torch
def test_files_by_torch(ours, authors, tmp_path):
    import torch

    state = {name: torch.tensor(array) for name, array in authors.items()}
    torch.save({"model": state}, tmp_path / "swin_micro.pth")
    check_backbone(tmp_path / "swin_micro.pth", ours)


@pytest.mark.torch
def test_another_window_at_hugging_face(tmp_path, transformers):
    model = transformers.SwinForImageClassification(swin_config(transformers, depths=[1] * 4))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has window_size 3, and the model needs window_size 4"):
        start_from(tmp_path, with_backbone(window_size=4), 0, "float32")


def test_the_tables_leave_out_the_output_norms_only():
    norms = [rule for rule in swin.AUTHORS_RULES if rule.ours[0].startswith("norms.")]
    assert len(swin_imagenet.AUTHORS.rules) == len(swin.AUTHORS_RULES) - len(norms)
    assert len(norms) == 2
