"""Small random models of transformers, to compare with; for tests marked with `torch`."""

from typing import Any

import numpy as np


def small_swin() -> Any:
    """Returns the config of a Swin whose stages differ in depth and heads."""
    from transformers import SwinConfig

    return SwinConfig(
        embed_dim=8,
        depths=[2, 1, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        mlp_ratio=2.0,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def random_model(kind: Any, config: Any) -> Any:
    """Returns a model of a class of transformers, none of whose parameters is plain 0 or 1."""
    import torch

    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def channels_last(x: Any) -> np.ndarray:
    """Returns their maps as ours, with channels after height and width."""
    return np.moveaxis(np.asarray(x), 1, -1)
