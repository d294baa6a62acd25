"""Data sets: files on disk, and street scenes that are drawn."""

from m2f_jax.datasets.streets import StreetScene, street_scene, write_streets

__all__ = ["StreetScene", "street_scene", "write_streets"]
