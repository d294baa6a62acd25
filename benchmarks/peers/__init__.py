"""The implementations that are compared, each of them this project's or a peer's.

A module is a side of a benchmark: one of `networks` of inference.py, of `trainers` of training.py
and convergence.py, of `operators` of deformable_attention.py. It is imported only where it runs, so
that a process that measures one framework holds no other.
"""

import importlib
from typing import Any

from measuring.records import OURS

THEIRS, OUR_POINTS, KERNEL = "transformers", "transformers, our points", "torch-ms-deform-attn"
OPENVINO = "openvino"
MODULES = {
    OURS: "ours",
    THEIRS: "transformers",
    OUR_POINTS: "our_points",
    "zeromodels": "zeromodels",
    OPENVINO: "openvino",
    KERNEL: "kernel",
}


def side(name: str, kind: str) -> Any:
    """Returns the class of a side: the "Network", "Trainer" or "Operator" of an implementation."""
    module = importlib.import_module(f"peers.{kind.lower()}s.{MODULES[name]}")
    return getattr(module, kind)
