"""Street scenes, drawn with exact labels, and in model/ the model trained on them."""

from m2f_jax.streets.files import write_streets
from m2f_jax.streets.scene import StreetScene, street_scene

__all__ = ["StreetScene", "street_scene", "write_streets"]
