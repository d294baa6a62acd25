"""Which dtype is computed in where none is named, and what is said of bfloat16."""

import pytest

from m2f_jax import default_dtype

INTEL = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx512f {}\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INTEL.format("avx512_bf16"), True),
        (INTEL.format("amx_tile amx_bf16"), True),
        (INTEL.format("avx512_vnni"), False),
        (ARM, None),
        ("", None),
    ],
)
def test_a_processor_says_whether_it_multiplies_bfloat16(text, expected):
    assert default_dtype.multiplies_bfloat16(text) is expected


@pytest.mark.parametrize(
    ("dtype", "text", "warns"),
    [
        ("bfloat16", INTEL.format("avx2"), True),
        ("float32", INTEL.format("avx2"), False),
        ("bfloat16", INTEL.format("avx512_bf16"), False),
        ("bfloat16", ARM, False),
        ("bfloat16", None, False),  # another system
    ],
)
def test_bfloat16_without_instructions_is_told_of(tmp_path, monkeypatch, dtype, text, warns):
    monkeypatch.setattr(default_dtype, "CPU_INFO", tmp_path / "cpuinfo")
    if text is not None:
        default_dtype.CPU_INFO.write_text(text)
    assert ("--dtype float32" in default_dtype.slow_bfloat16(dtype)) is warns


def test_the_default_goes_by_the_platform(monkeypatch):
    assert default_dtype.default_dtype() == "float32"
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert default_dtype.default_dtype() == "bfloat16"
    assert default_dtype.slow_bfloat16("bfloat16") == ""
