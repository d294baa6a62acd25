"""How the losses treat clips: each frame has its own points, each object has one query.

Axes: L predictions (of the learned queries and of each layer), B clips, T frames of each, Q
queries, E mask embedding width, M targets, P points.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.ops.sampling import sample


def sample_frames(
    maps: Float[Array, "*T H W C"] | Bool[Array, "*T H W C"],
    points: Float[Array, "P 2"] | None,
) -> Float[Array, "samples C"]:
    """Returns bilinear samples of an image, or of each frame of a clip at the same points."""
    if maps.ndim == 3:
        return sample(maps, points)
    return jax.lax.collapse(jax.vmap(sample, in_axes=(0, None))(maps, points), 0, 2)


def frames_as_images(
    mask_embeddings: Float[Array, "L B Q E"],
    per_pixel: Float[Array, "..."],
    masks: Bool[Array, "B M *T H W"] | Float[Array, "B M *T H W"],
    assignment: Int[Array, "L B M"],
) -> tuple[
    Float[Array, "L images Q E"],
    Float[Array, "*L images h w E"],
    Bool[Array, "images M H W"] | Float[Array, "images M H W"],
    Int[Array, "L images M"],
]:
    """Returns the frames of clips as images, with the queries of their clip; images stay as is.

    Args:
        mask_embeddings: the embeddings of all queries.
        per_pixel: embeddings at stride 4, [B, T, h, w, E], perhaps with L before it.
        masks: the masks of the targets.
        assignment: the query of each target; -1 for none.
    """
    if masks.ndim == 4:
        return mask_embeddings, per_pixel, masks, assignment
    count = masks.shape[2]
    return (
        jnp.repeat(mask_embeddings, count, axis=1),
        jax.lax.collapse(per_pixel, per_pixel.ndim - 5, per_pixel.ndim - 3),
        jax.lax.collapse(jnp.moveaxis(masks, 2, 1), 0, 2),
        jnp.repeat(assignment, count, axis=1),
    )
