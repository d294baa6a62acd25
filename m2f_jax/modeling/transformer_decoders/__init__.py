"""Transformer decoders: queries and the feature pyramid to classes and masks."""
