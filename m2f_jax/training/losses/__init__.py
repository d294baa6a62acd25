"""What training minimises: `TERMS`, summed over matched pairs by `loss`."""

from m2f_jax.training.losses.criterion import Losses, loss
from m2f_jax.training.losses.terms import TERMS, BatchTerm, PairTerm

__all__ = ["TERMS", "BatchTerm", "Losses", "PairTerm", "loss"]
