"""The published models of images and videos, with the facts that the authors state about them."""

from m2f_jax.presets.definition import (
    DATA_SETS,
    HUB_PREFIX,
    LICENSE,
    LICENSE_URL,
    DataSet,
    Preset,
)
from m2f_jax.presets.finding import name_of, nearest_preset, preset
from m2f_jax.presets.published import PRESETS

__all__ = [
    "DATA_SETS",
    "HUB_PREFIX",
    "LICENSE",
    "LICENSE_URL",
    "PRESETS",
    "DataSet",
    "Preset",
    "name_of",
    "nearest_preset",
    "preset",
]
