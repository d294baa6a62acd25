"""A training run over time: its loop, checkpoints and logs."""
