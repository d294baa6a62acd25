"""Image files as arrays: opened with care, read as pictures or as maps of ids."""

from m2f_jax.images.opening import ImageFileError, image_suffixes
from m2f_jax.images.reading import (
    ImageSource,
    count_pages,
    decode_image,
    image_size,
    read_ids,
    read_image,
    verified_size,
)
from m2f_jax.pixel_limit import max_pixels, set_max_pixels

__all__ = [
    "ImageFileError",
    "ImageSource",
    "count_pages",
    "decode_image",
    "image_size",
    "image_suffixes",
    "max_pixels",
    "read_ids",
    "read_image",
    "set_max_pixels",
    "verified_size",
]
