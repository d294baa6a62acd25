"""Cityscapes predictions in files: the texts that list masks, and panoptic JSON."""

import json
from pathlib import Path

from hypothesis import strategies as st
from m2f_jax.eval.predictions.cityscapes import read_lines
from m2f_jax.eval.predictions.panoptic import read_entries

from tests.fuzz.targets import fuzz, refused_by_name

WORDS = ["a.png", "../a.png", "/a.png", "24", "26.0", "0.9", "nan", "-inf", "1e999", "person", ""]
ENDS = ["\n", "\r\n", "\r", " \n", "\n\n", "\x0c", "\u2028", "\ufeff", "\0"]
FIELDS = ["annotations", "image_id", "file_name", "segments_info", "id", "category_id"]


@st.composite
def texts(draw) -> bytes:
    """Lines that are nearly right, in some encoding, or any bytes."""
    words = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))
    lines = draw(st.lists(st.lists(words, min_size=2, max_size=4), max_size=4))
    text = "".join(" ".join(line) + draw(st.sampled_from(ENDS)) for line in lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return text.encode(encoding, "replace") + draw(
        st.binary(max_size=draw(st.sampled_from([0, 9])))
    )


def values() -> st.SearchStrategy:
    """JSON of any shape in which the format's fields are frequent."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.just("a" * 9999),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=3)), inner),
            st.fixed_dictionaries(dict.fromkeys(FIELDS[1:4], inner)),
            st.fixed_dictionaries(dict.fromkeys(FIELDS[4:], inner)),
        ),
        max_leaves=12,
    )


@st.composite
def panoptic(draw) -> bytes:
    """A panoptic file whose entries are nearly right, or any JSON."""
    segments = st.fixed_dictionaries(
        {name: st.one_of(st.integers(), values()) for name in FIELDS[4:]}
    )
    entries = st.fixed_dictionaries(
        {
            "image_id": st.one_of(st.integers(), st.text(max_size=3), values()),
            "file_name": st.one_of(st.text(max_size=3), values()),
            "segments_info": st.one_of(st.lists(segments, max_size=2), values()),
        }
    )
    annotations = st.one_of(st.lists(st.one_of(entries, values()), max_size=3), values())
    content = draw(st.one_of(st.fixed_dictionaries({"annotations": annotations}), values()))
    return json.dumps(content).encode()


@fuzz(texts())
def test_texts(data: bytes, folder: Path):
    path = folder / "example.txt"
    path.write_bytes(data)
    with refused_by_name(path):
        for line in read_lines(path, folder):
            assert line.mask.is_relative_to(folder)
            assert type(line.label) is int
            assert abs(line.score) < float("inf")


@fuzz(panoptic())
def test_panoptic_json(data: bytes, folder: Path):
    path = folder / "example.json"
    path.write_bytes(data)
    with refused_by_name(path):
        for entry in read_entries(path):
            assert type(entry.image_id) in (int, str)
            assert type(entry.file_name) is str
            assert all(type(x) is int for segment in entry.segments for x in segment.values())
