"""Tests of the way from images to segmentations, also of exported models."""
