"""Masks of single objects: boxes, packed bits, run-length encodings, and tracks of them."""
