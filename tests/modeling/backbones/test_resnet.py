"""The ResNet: sizes that no golden data has, DeepLab's form, and what training leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import ResNetConfig
from m2f_jax.modeling.backbones.resnet import ResNet

SMALL = ResNetConfig(depths=(1, 2, 1, 3), stem_dim=4, dim=8)


def make(cfg):
    return ResNet(cfg, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("size", [(32, 32), (33, 65), (40, 47)])
@pytest.mark.parametrize("deeplab", [False, True])
def test_sizes_are_rounded_up(size, deeplab):
    cfg = ResNetConfig(depths=(1, 1, 1, 3), stem_dim=4, dim=8, deeplab=deeplab)
    shapes = jax.eval_shape(make(cfg), jax.ShapeDtypeStruct((2, *size, 3), jnp.float32))
    height, width = size
    for feature, stride, dim in zip(shapes, (4, 8, 16, 32), cfg.channels, strict=True):
        assert feature.shape == (2, -(-height // stride), -(-width // stride), dim)


@pytest.mark.parametrize(("deeplab", "reach"), [(False, (1, 1, 1)), (True, (1, 2, 4))])
def test_deeplabs_last_stage_looks_further(deeplab, reach):
    backbone = make(ResNetConfig(depths=(1, 1, 1, 3), stem_dim=4, dim=8, deeplab=deeplab))
    for block, dilation in zip(backbone.res5, reach, strict=True):
        assert block.conv2.conv.kernel_dilation in (dilation, (dilation, dilation))
    assert [len(backbone.stem.convs), backbone.res5[0].conv2.conv.strides] in ([1, 2], [3, 2])
    assert len(backbone.stem.convs) == (3 if deeplab else 1)


def test_norms_are_not_trained_and_convolutions_are():
    backbone = make(SMALL)
    image = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    graph, state = nnx.split(backbone)

    def loss(state):
        return sum((x**2).mean() for x in nnx.merge(graph, state)(image))

    gradients = jax.jit(jax.grad(loss))(state)
    for path, gradient in nnx.to_flat_state(gradients):
        frozen = gradient.get_metadata().get("frozen", False)
        assert frozen == ("norm" in path), path
        assert frozen == (not np.any(gradient[...])), path


def test_remat_changes_nothing():
    backbone = make(SMALL)
    image = jax.random.normal(jax.random.key(0), (1, 32, 48, 3))
    for one, other in zip(backbone(image), backbone(image, remat=True), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depths": (3, 4, 6)}, "depths needs 4 entries"),
        ({"depths": (3, 4, 0, 3)}, "depths must be from 1"),
        ({"dim": 6}, "dim 6 must be a multiple of 4"),
        ({"stem_dim": 7, "deeplab": True}, "stem_dim 7 one of 2"),
    ],
)
def test_impossible_sizes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ResNetConfig(**values)
