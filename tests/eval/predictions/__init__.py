"""Tests of predictions in files."""
