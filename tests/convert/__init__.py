"""Tests of the converter: files, names, and checkpoints in every spelling."""
