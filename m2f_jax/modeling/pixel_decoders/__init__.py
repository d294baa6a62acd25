"""Pixel decoders: a backbone's features to the feature pyramid and the per-pixel embeddings."""
