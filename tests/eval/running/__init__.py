"""Tests of evaluation over processes."""
