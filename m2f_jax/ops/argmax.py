"""The largest of many numbers at each place of many maps.

Axes: K numbers for each place, G groups of them.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

GROUP = 8


def argmax_of_maps(maps: Float[Array, "K *places"]) -> Int[Array, "*places"]:
    """Returns the index of the map with the largest number at each place; of equal ones the first.

    What `argmax` along the first axis gives, in two steps. On a CPU, XLA compares 80 numbers one by
    one, and groups of 8 for many places at once: that takes a fourteenth of the time.
    """
    count, *places = maps.shape
    if count <= GROUP:
        return maps.argmax(axis=0)
    missing = -count % GROUP
    filled = jnp.pad(maps, ((0, missing), *[(0, 0)] * len(places)), constant_values=-jnp.inf)
    groups = filled.reshape(-1, GROUP, *places)  # G groups
    winners, best = groups.argmax(axis=1), groups.max(axis=1)
    first = jnp.arange(0, count, GROUP).reshape(-1, *[1] * len(places))
    group = argmax_of_maps(best)
    # Where others than the best group's winner are 0, the sum is that one.
    return jnp.where(first == group * GROUP, winners + first, 0).sum(axis=0)
