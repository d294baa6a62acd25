"""Transformer decoders, by the names of each origin."""
