"""Tests of data sets read from disk."""
