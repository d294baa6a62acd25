"""Street scenes that are drawn, with exact labels: `scene` composes what the others draw."""

from m2f_jax.datasets.streets.files import write_streets
from m2f_jax.datasets.streets.scene import StreetScene, street_scene

__all__ = ["StreetScene", "street_scene", "write_streets"]
