"""Products in several number formats."""

import json

import number_formats
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("calls", "of"),
    [(number_formats.product_calls, (6, 32, 5)), (number_formats.convolution_calls, (7,))],
)
def test_all_columns_are_the_same_product(calls, of, monkeypatch):
    monkeypatch.setattr(number_formats, "CHANNELS", 4)
    found = {name: np.asarray(f(*x), np.float32) for name, (f, x) in calls(*of).items()}
    found.pop("int8", None)  # without its factors
    expected = found.pop("float32")
    for name, values in found.items():
        assert abs(values - expected).max() < 0.03 * abs(expected).max(), name


def test_number_formats(tmp_path, monkeypatch):
    monkeypatch.setattr(number_formats, "SHAPES", number_formats.SHAPES[:1])
    monkeypatch.setattr(number_formats, "CHANNELS", 4)
    path = tmp_path / "report.json"
    number_formats.main(["--divide", "90", "--repeats", "1", "--json", str(path)])
    products, convolutions = json.loads(path.read_text())["tables"].values()
    assert [row["shape"] for row in products] == ["102 x 96 x 384"]
    assert all(value > 0 for name, value in products[0].items() if name != "shape")
    assert convolutions[0]["map"] == "1 x 1 x 4"
