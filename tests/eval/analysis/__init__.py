"""Tests of what lies behind a score."""
