"""How many pixels an image may have; without importing Pillow, which would slow `m2f --help`."""

MAX_PIXELS = 2**26  # 67 million; reading takes up to 16 bytes each
MOST_PIXELS = 2**31 - 1

_max_pixels = MAX_PIXELS


def set_max_pixels(count: int):
    """Sets how many pixels an image may have, for all readers of this process; see `max_pixels`.

    Raises:
        ValueError: it isn't from 1 to `MOST_PIXELS`.
    """
    global _max_pixels
    if not 1 <= count <= MOST_PIXELS:
        raise ValueError(f"max_pixels is from 1 to {MOST_PIXELS}, not {count}")
    _max_pixels = count


def max_pixels() -> int:
    """Returns how many pixels an image may have: `MAX_PIXELS`, unless `set_max_pixels` changed it.

    A file of a few kilobytes may claim billions. Pillow's own limit, `Image.MAX_IMAGE_PIXELS`,
    is neither read nor changed.
    """
    return _max_pixels
