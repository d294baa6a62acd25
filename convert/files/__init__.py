"""Checkpoint files: where they are, and the tensors in them."""
