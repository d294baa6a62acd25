"""Tests of the parts of `m2f predict`, with a stub in place of a model."""
