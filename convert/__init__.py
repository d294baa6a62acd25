"""Checkpoints of Mask2Former in the authors', Hugging Face's and our own form; backbones alone."""

from .reading import Checkpoint, open_backbone, open_checkpoint
from .writing import convert, save_checkpoint

__all__ = ["Checkpoint", "convert", "open_backbone", "open_checkpoint", "save_checkpoint"]
