"""Training: what is minimised, and how."""

from m2f_jax.structures import Targets
from m2f_jax.training.losses import LossConfig, Losses, LossPoints, loss

__all__ = ["LossConfig", "LossPoints", "Losses", "Targets", "loss"]
