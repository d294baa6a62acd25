"""The pictures of a report: the worst images with what is right in them and what is wrong."""

from .picture import Picture, load_pictures, save_pictures
from .section import legend, picture_section
from .worst import worst_pictures

__all__ = [
    "Picture",
    "legend",
    "load_pictures",
    "picture_section",
    "save_pictures",
    "worst_pictures",
]
