"""Tests of the scores beside the authors'."""
