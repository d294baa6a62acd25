"""Segmentation of many images on many devices, by Ray Data."""

from m2f_jax.ray.segmenting import Segmented, segment

__all__ = ["Segmented", "segment"]
