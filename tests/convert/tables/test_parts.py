"""A backbone from outside the package brings its tables, and touches no other."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from m2f_jax.convert import convert, open_checkpoint
from m2f_jax.convert.files.formats import open_tensors
from m2f_jax.convert.tables import authors, parts
from m2f_jax.convert.tables.backbones import swin
from m2f_jax.convert.tables.huggingface import tensors as huggingface
from m2f_jax.convert.tables.origins import (
    AuthorsPart,
    HuggingFaceBackbone,
    HuggingFacePart,
    PartTables,
)
from m2f_jax.convert.tables.rules import Rule, Table

from m2f_jax.config import BACKBONES, SwinConfig
from m2f_jax.modeling.backbones.swin import SwinTransformer
from m2f_jax.modeling.parts import MODULES


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(SwinConfig):
    """A Swin whose tensors have other names in both formats."""


def renamed(rules):
    """The same rules with "toy." before their names."""
    return tuple(Rule(tuple(f"toy.{x}" for x in r.theirs), r.ours, r.layout) for r in rules)


def toy(config: SwinConfig):
    return ToyConfig(**dataclasses.asdict(config))


TOY = PartTables(
    AuthorsPart(
        Table(renamed(swin.AUTHORS_RULES), spellings=((r"tyo\.", "toy."),)),
        mark="toy.patch_embed.proj.weight",
        infer=lambda tensors, heads: toy(
            swin.infer(tensors._replace(place=f"{tensors.place}toy."), heads)
        ),
    ),
    HuggingFacePart(
        Table(renamed(swin.HUGGING_FACE_RULES)),
        HuggingFaceBackbone(
            "toy",
            lambda values, where: toy(swin.read({**values, "model_type": "swin"}, where)),
            lambda config: {**swin.write(config), "model_type": "toy"},
        ),
    ),
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(parts.BACKBONES, ToyConfig, TOY)
    monkeypatch.setitem(BACKBONES, "toy", ToyConfig)
    monkeypatch.setitem(MODULES, ToyConfig, SwinTransformer)


def write_authors(tiny, path, prefix):
    """The golden model as an authors' file whose backbone has other names."""
    tensors = open_tensors(tiny.folder / "model_final.pkl")
    renamed = {
        name.replace("backbone.", f"backbone.{prefix}", 1): tensor.read()
        for name, tensor in tensors.items()
        if "relative_position_index" not in name
    }
    path.write_bytes(pickle.dumps({"model": renamed}))
    return path


@pytest.mark.parametrize("prefix", ["toy.", "tyo."])
def test_from_the_authors_format_to_hugging_faces_and_back(tiny, tmp_path, prefix):
    plain = open_checkpoint(tiny.folder / "model_final.pkl")
    path = write_authors(tiny, tmp_path / "toy.pkl", prefix)
    found = convert(path, tmp_path / "hf", "huggingface")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["backbone_config"]["model_type"] == "toy"
    back = open_checkpoint(tmp_path / "hf", task=found.config.task)
    for one in (found, back):
        assert one.config == dataclasses.replace(plain.config, backbone=toy(plain.config.backbone))
        assert one.tensors.keys() == plain.tensors.keys()
        for name, tensor in one.tensors.items():
            np.testing.assert_array_equal(tensor.read(), plain.tensors[name].read(), strict=True)


def test_other_backbones_are_still_themselves(tiny):
    for source in ("hf", "model_final.pkl"):
        assert type(open_checkpoint(tiny.folder / source).config.backbone) is SwinConfig


def test_what_does_not_fit_is_told_with_the_names_in_the_file(tiny, tmp_path):
    path = write_authors(tiny, tmp_path / "toy.pkl", "toy.")
    content = pickle.loads(path.read_bytes())
    content["model"]["backbone.toy.norm0.scale"] = content["model"].pop("backbone.toy.norm0.weight")
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"missing: backbone\.toy\.norm0\.weight") as error:
        open_checkpoint(path)
    assert "unexpected: backbone.toy.norm0.scale" in str(error.value)


def test_a_backbone_without_tables_is_named(tiny, monkeypatch):
    config = dataclasses.replace(tiny.model.config, backbone=toy(tiny.model.config.backbone))
    monkeypatch.setitem(parts.BACKBONES, ToyConfig, PartTables())
    for origin in (authors, huggingface):
        with pytest.raises(ValueError, match="no table of conversion for a backbone of ToyConfig"):
            origin.table_of(config)
