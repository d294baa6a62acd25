"""The smallest of many numbers, as a set: what `top_k` gives, without its order and its sorting.

Axes: N numbers, K of them, W words of 32 bits.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

WORD = 32  # bits


def smallest(numbers: Float[Array, "*rows N"], count: int) -> Int[Array, "*rows K"]:
    """Returns the indices of the `count` smallest numbers of each row, in no particular order.

    Where equal numbers compete for the last places, the first ones get them, as with `top_k`.

    Args:
        numbers: float32, none below zero. NaN counts as greater than any number.
        count: how many to choose, from 0 to N.
    """
    row = functools.partial(smallest_of_row, count=count)
    for _ in numbers.shape[:-1]:
        row = jax.vmap(row)
    return row(numbers)


def smallest_of_row(numbers: Float[Array, "N"], *, count: int) -> Int[Array, "K"]:
    """Returns the indices of the `count` smallest numbers."""
    above = above_nth(jax.lax.bitcast_convert_type(jnp.abs(numbers), jnp.int32), count)
    # All that are smaller, then the first that are equal: the first bits that are set in both.
    words = jnp.concatenate([pack(above < 0), pack(above == 0)])
    places = first_set(words, count)
    padded = len(words) // 2 * WORD
    return jnp.where(places < padded, places, places - padded)


def above_nth(bits: Int[Array, "N"], n: int) -> Int[Array, "N"]:
    """Returns how far each number is above the n-th smallest, counted from 1; none is below zero.

    The n-th smallest is found bit by bit. Of what the outer loop gives there is one version: XLA
    computes cheap numbers again wherever they are used, now and then with another rounding, and
    fewer would be smaller than were counted.
    """

    def decide_half(half, above):
        def decide(step, smaller):
            tried = smaller + ((1 << 30) >> (16 * half + step))  # the 32nd bit is 0
            fewer = (above < tried).sum(dtype=jnp.int32) < n
            return jnp.where(fewer, tried, smaller)

        return above - jax.lax.fori_loop(0, 16, decide, jnp.int32(0))

    return jax.lax.fori_loop(0, 2, decide_half, bits)


def pack(chosen: Bool[Array, "N"]) -> UInt32[Array, "W"]:
    """Packs bits into words, the first into the lowest bit."""
    rows = jnp.pad(chosen, (0, -len(chosen) % WORD)).reshape(-1, WORD).astype(jnp.uint32)
    return (rows << jnp.arange(WORD, dtype=jnp.uint32)).sum(axis=1, dtype=jnp.uint32)


def first_set(words: UInt32[Array, "W"], count: int) -> Int[Array, "K"]:
    """Returns the places of the first `count` bits that are set; there must be as many."""
    if count == 0:
        return jnp.zeros(0, jnp.int32)
    ends = jnp.cumsum(jax.lax.population_count(words).astype(jnp.int32))
    # A bit's word is the number of words that end before it.
    passed = jnp.zeros(count, jnp.int32).at[ends].add(1, mode="drop")
    word = jnp.cumsum(passed)
    before = jnp.where(word > 0, ends[word - 1], 0)
    return word * WORD + nth_set(words[word], jnp.arange(count) - before)


def nth_set(words: UInt32[Array, "K"], n: Int[Array, "K"]) -> Int[Array, "K"]:
    """Returns the place of each word's n-th set bit, counted from 0, by halving the word."""
    place = jnp.zeros_like(n)
    for half in (16, 8, 4, 2, 1):
        low = words & jnp.uint32((1 << half) - 1)
        in_low = jax.lax.population_count(low).astype(jnp.int32)
        is_high = n >= in_low
        n = jnp.where(is_high, n - in_low, n)
        words = jnp.where(is_high, words >> half, low)
        place = jnp.where(is_high, place + half, place)
    return place
