"""The losses of clips are the authors', for their points."""

import functools
import types

import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.structures import LayerPredictions, Predictions, Targets
from m2f_jax.training import LossConfig, LossPoints, loss
from m2f_jax.training.losses.clips import frames_as_images
from tests.training.losses.test_published_losses import KEY, check_gradients, check_losses


@pytest.fixture(scope="module")
def case(video):
    """What loss.npz holds, laid out as `loss` takes it, with one more target that fills up."""
    stored = dict(np.load(video.folder / "loss.npz"))
    config = LossConfig(num_points=video.settings["loss"]["num_points"])
    frames, (height, width) = video.settings["frames"], video.settings["frame_size"]
    layers, count = video.settings["num_predictions"], len(stored["target_labels_0"])
    labels = np.append(stored["target_labels_0"], 0)[None]
    masks = np.zeros((1, count + 1, frames, *video.settings["padded_size"]), bool)
    unpacked = np.unpackbits(stored["target_masks_0"], axis=1, count=frames * height * width)
    masks[0, :count, :, :height, :width] = unpacked.reshape(count, frames, height, width)
    assert not masks[0, :count, -1].any(axis=(1, 2)).all()  # one has left by the last frame
    assignment = np.full((layers, 1, count + 1), -1, np.int32)

    def of_frames(points):
        """From a row for every pair and frame, in the order of queries, to [L, T, M, points, 2]."""
        result = np.zeros((layers, frames, count + 1, *points.shape[2:]), np.float32)
        for layer in range(layers):
            rows = points[layer].reshape(count, frames, *points.shape[2:])
            result[layer][:, stored[f"match_target_p{layer}_0"]] = rows.swapaxes(0, 1)
        return result

    for layer in range(layers):
        matched = stored[f"match_target_p{layer}_0"]
        assignment[layer, 0, matched] = stored[f"match_query_p{layer}_0"]
    return types.SimpleNamespace(
        config=config,
        targets=Targets(labels, masks, np.arange(count + 1)[None] < count),
        points=LossPoints(
            stored["matcher_points"],
            of_frames(stored["candidate_points"]),
            of_frames(stored["random_points"]),
        ),
        assignment=assignment,
        stored=stored,
        grad_names=video.settings["grad_names"],
    )


def test_losses_of_the_authors_predictions(video, case, run):
    of_case = functools.partial(loss, config=case.config, key=KEY)
    predictions = tuple(video.predictions)
    losses = run(lambda x: of_case(x, case.targets, points=case.points), predictions)
    check_losses(losses, case, 1e-6)


def test_gradients(video, case, run):
    check_gradients(video.model, video.clip("pixel_values"), case, run)


def test_targets_of_images_are_refused(video, case):
    targets = case.targets._replace(masks=case.targets.masks[:, :, 0])
    with pytest.raises(ValueError, match=r"of clips \[B, M, T, H, W\]"):
        loss(tuple(video.predictions), targets, case.config, key=KEY)
    fewer = tuple(Predictions(x.class_logits, x.mask_logits[:, :, :2]) for x in video.predictions)
    with pytest.raises(ValueError, match=r"of clips \[B, M, T, H, W\]"):
        loss(fewer, case.targets, case.config, key=KEY)
    height, width = (-(-x // 4) for x in targets.masks.shape[2:])
    shapes = (2, 1, 3, 4), (2, 1, 3, 5), (1, 2, height, width, 5)
    factors = LayerPredictions(*(jnp.zeros(shape) for shape in shapes))
    with pytest.raises(ValueError, match=r"of clips \[B, M, T, H, W\]"):
        loss(factors, targets, case.config, key=KEY)


def test_frames_of_several_clips_are_images_in_order():
    clips, frames = 2, 3
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(1, clips, 5, 4)).astype(np.float32)
    per_pixel = rng.normal(size=(clips, frames, 2, 2, 4)).astype(np.float32)
    masks = rng.random((clips, 6, frames, 8, 8)) < 0.5
    assignment = rng.integers(5, size=(1, clips, 6))
    for own in (per_pixel, per_pixel[None]):  # shared by all predictions, or not
        arrays = map(jnp.asarray, (embeddings, own, masks, assignment))
        images = list(map(np.asarray, frames_as_images(*arrays)))
        for i, (clip, frame) in enumerate(np.ndindex(clips, frames)):
            np.testing.assert_array_equal(images[0][:, i], embeddings[:, clip])
            np.testing.assert_array_equal(
                images[1][..., i, :, :, :], own[..., clip, frame, :, :, :]
            )
            np.testing.assert_array_equal(images[2][i], masks[clip, :, frame])
            np.testing.assert_array_equal(images[3][:, i], assignment[:, clip])
