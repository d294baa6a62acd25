"""Fuzz targets: what the readers make of hostile files. A module per reader."""
