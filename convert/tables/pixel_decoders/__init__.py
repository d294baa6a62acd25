"""Pixel decoders, by the names of each origin."""
