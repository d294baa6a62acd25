"""A fingerprint of what segments, by which results of other models are told apart."""

import hashlib

from m2f_jax.inference.digest import digest_of_model
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.video_segmenter import VideoSegmenter


def digest_of_segmenter(segmenter: Segmenter | VideoSegmenter) -> str:
    """Returns a digest of everything that decides a result: model and processor."""
    model = digest_of_model(segmenter.config, segmenter.parameters)
    text = f"{model} {segmenter.processor!r}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
