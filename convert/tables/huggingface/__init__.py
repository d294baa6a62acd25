"""Hugging Face's checkpoints: their tensors and their JSON files."""
