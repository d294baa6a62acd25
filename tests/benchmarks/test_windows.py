"""The forms of attention in windows that gpu.py compares."""

import jax.numpy as jnp
from gpu_rows.windows import forms as window_forms

from m2f_jax.config import SwinConfig
from tests.conftest import compile_and_call

MAPS = [  # that need padding and that don't, of one window and of many
    window_forms.Map(*shape)
    for shape in (
        (1, 25, 33, 2, 32, 12, True),
        (2, 24, 24, 3, 32, 12, False),
        (1, 9, 11, 1, 32, 12, True),
        (1, 25, 33, 2, 16, 12, True),
        (1, 25, 33, 2, 64, 12, True),
        (2, 15, 20, 2, 32, 7, False),
        (2, 15, 20, 2, 32, 7, True),
        (2, 17, 24, 2, 32, 8, True),
        (1, 9, 9, 2, 32, 4, True),
    )
]


def test_forms_of_window_attention_agree():
    for shape in MAPS:
        arrays = window_forms.draw(shape, jnp.float32)
        want = window_forms.reference(shape, arrays)
        for form in window_forms.forms_of(shape, "cpu").values():
            got = compile_and_call(form, *arrays)
            assert window_forms.relative_error(got, want) < 1e-6


def test_window_attention_takes_the_maps_of_all_stages():
    maps = window_forms.maps_of_stages(SwinConfig(num_heads=(3, 6, 12, 24)), (100, 200))
    assert [(x.height, x.width, x.heads, x.shifted) for x in maps] == [
        (25, 50, 3, False),
        (25, 50, 3, True),
        (13, 25, 6, False),
        (13, 25, 6, True),
        (7, 13, 12, False),
        (7, 13, 12, True),
        (4, 7, 24, False),
        (4, 7, 24, True),
    ]
    assert {(x.head_width, x.window_size) for x in maps} == {(32, 7)}
