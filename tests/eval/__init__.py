"""Tests of metrics, predictions in files and reports."""
