"""Sizes of images."""

Size = tuple[int, int]  # height, width
