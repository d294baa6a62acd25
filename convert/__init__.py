"""Opens and writes checkpoints: the authors', Hugging Face's and ours, and backbones alone."""

from .backbone import open_backbone
from .reading import Checkpoint, WrongKindError, open_checkpoint
from .writing import convert, save_checkpoint

__all__ = [
    "Checkpoint",
    "WrongKindError",
    "convert",
    "open_backbone",
    "open_checkpoint",
    "save_checkpoint",
]
