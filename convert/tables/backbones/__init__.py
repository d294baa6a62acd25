"""Backbones, by the names of each origin."""
