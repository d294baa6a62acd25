"""JSON: what is read, what is refused and how, and what is written."""

import json
import math

import numpy as np
import pytest

from m2f_jax.files import json_files, parse_json, read_json, write_json

REFUSED = {
    b"": "is not valid JSON",
    b"{": "is not valid JSON",
    b"\xff\xfe{\x00}\x00": "is not valid JSON",
    b"[" * 100_000: "nested too deeply",
    b'{"a":' * 100_000: "nested too deeply",
    b'{"a": 1, "a": 2}': "the key 'a' is there twice",
    b'[{"b": {"a": 1, "c": 1, "c": 2}}]': "the key 'c' is there twice",
    b"1" * 10_000: "is not valid JSON",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_json_is_refused_by_name(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=REFUSED[text]) as caught:
        read_json(path)
    assert "odd.json" in str(caught.value)
    assert "\n" not in str(caught.value)


READ = (
    b"null",
    b' {"a": [1, -0, 2.5e-3, 1E5, true, null], "b": {"a": "", "c": "\\"\\u00e9\\ud83d\\ude00/"}}\n',
    b"[123456789012345678901234567890, 18446744073709551616, 0.1000000000000000055511151231257827]",
    b'[NaN, -Infinity, 1e999, "\\ud800"]',
    b'{"a": ["x", {"a": 1}, []], "": {}}',
)


@pytest.mark.parametrize("text", [*READ, *REFUSED], ids=range(len(READ) + len(REFUSED)))
def test_msgspec_reads_what_pythons_reader_reads(monkeypatch, text):
    def outcome():
        try:
            return repr(parse_json(text, "odd.json"))
        except ValueError as error:
            return str(error)

    ours = outcome()
    monkeypatch.setattr(json_files, "msgspec", None)
    assert ours == outcome()


@pytest.mark.skipif(
    json_files.msgspec is None, reason="msgspec isn't installed; without it nothing reads faster"
)
@pytest.mark.parametrize("text", [READ[2], READ[4]])
def test_what_is_sound_is_read_by_msgspec(text):
    assert json_files.read_fast(text) is not None


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"stra\xc3\x9fe": 1}')
    assert read_json(path) == {"straße": 1}


def test_written_json_is_strict(tmp_path):
    path = tmp_path / "a.json"
    values = {"a": [math.nan, 1.5, (np.float32(-math.inf), np.int64(7))], "b": {"c": math.inf}}
    write_json(path, values)

    def refuse(name):
        raise AssertionError(name)

    there = json.loads(path.read_text(), parse_constant=refuse)
    assert there == {"a": [None, 1.5, [None, 7]], "b": {"c": None}}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
