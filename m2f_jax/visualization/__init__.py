"""Segmentations as pictures: what is painted, in which colors, and where the labels go."""
