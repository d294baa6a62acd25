"""Metrics: numbers from arrays, equal to those of the official scripts."""
