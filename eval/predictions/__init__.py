"""Predictions in files of the official formats: written, checked, and read to be scored."""
