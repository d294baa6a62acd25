"""Opens backbones that were trained on ImageNet."""

import os

from m2f_jax.config import ModelConfig
from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.plain import type_of

from .files.folder import CONFIG_FILE, HUGGING_FACE_WEIGHTS, read_object, weights_in
from .files.formats import StoredTensor
from .files.locating import locate
from .tables.huggingface.json_fields import about
from .tables.imagenet import kinds as imagenet
from .tables.rules import expand
from .tensors import as_parameters, open_unwrapped, respell_all


def open_backbone(
    source: str | os.PathLike,
    config: ModelConfig,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> dict[str, StoredTensor] | None:
    """Opens a backbone trained on ImageNet; returns None if `source` is something else.

    Args:
        source: a Hugging Face folder or hub id of a Swin or ResNet, one of the Swin authors' files,
            or a ResNet of detectron2's, torchvision's or timm's.
        config: of the model that the backbone is for.
        revision: branch, tag or commit on the hub.
        token: for private repositories on the hub; by default the one you logged in with.

    Returns:
        The backbone's tensors under the names of our parameters; for a Swin, all but the norms of
        its outputs, which such files don't hold.

    Raises:
        FileNotFoundError: there is nothing of that name, or the folder lacks a file.
        ValueError: the file is damaged, or holds a backbone of another architecture; the message
            lists the differences.
    """
    path = locate(source, revision, token)
    if path.is_file():
        weights, tensors = path, open_unwrapped(path)
        kind, form = imagenet.of_names(tensors)
    else:
        if not (path / CONFIG_FILE).is_file():
            return None
        values = read_object(path / CONFIG_FILE)
        kind, form = imagenet.of_huggingface(values, str(path / CONFIG_FILE))
        if kind is None:
            return None
        weights = weights_in(path, HUGGING_FACE_WEIGHTS)
        tensors = open_unwrapped(weights)
    if kind is None or form is None:
        return None
    tensors = respell_all(tensors, form.spellings, weights)
    if not isinstance(config.backbone, kind.config_class):
        raise ValueError(
            f"{source} is a {kind.name}, and the model's backbone is of the type "
            f"{type_of(config.backbone)!r}"
        )
    with about(weights):
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        kind.check_shapes(shapes, form.rules, config.backbone)
    rules = expand(form.rules, filter(kind.is_pretrained, parameter_shapes(config)))
    unfit = f"{weights} isn't, or isn't all of, a {kind.name} of the size that is needed"
    return as_parameters(tensors, rules, parameter_shapes(config), unfit, form.unused)
