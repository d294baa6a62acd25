"""Training: what is minimised, and how. Needs the extra `train`."""

try:
    import optax  # noqa: F401 - if missing, said at once and with the remedy
except ImportError as error:
    raise ImportError(
        "training needs more packages: pip install 'm2f-jax[train]'", name=error.name
    ) from error

from m2f_jax.structures import Targets
from m2f_jax.training.batch import TrainBatch
from m2f_jax.training.config import ExtraTerm, LossConfig, OptimizerConfig, TrainConfig
from m2f_jax.training.initialize import initialize
from m2f_jax.training.losses import TERMS, BatchTerm, Losses, PairTerm, loss
from m2f_jax.training.losses.pairs import LossPoints, Pair
from m2f_jax.training.optimizer import make_optimizer
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.state import TrainState
from m2f_jax.training.step import Metrics, train_step

__all__ = [
    "TERMS",
    "BatchTerm",
    "ExtraTerm",
    "LossConfig",
    "LossPoints",
    "Losses",
    "Metrics",
    "OptimizerConfig",
    "Pair",
    "PairTerm",
    "Partitioner",
    "Targets",
    "TrainBatch",
    "TrainConfig",
    "TrainState",
    "initialize",
    "loss",
    "make_optimizer",
    "train_step",
]
