"""Fingerprints of what is evaluated, by which results of other models and data are told apart."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from m2f_jax.inference.digest import digest_of_model
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.video_segmenter import VideoSegmenter


def digest_of_segmenter(segmenter: Segmenter | VideoSegmenter) -> str:
    """Returns a digest of everything that decides a result: model and processor."""
    model = digest_of_model(segmenter.config, segmenter.parameters)
    text = f"{model} {segmenter.processor!r}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of_files(paths: Sequence[Path]) -> str:
    """Returns a fingerprint of files by name, size and time of change."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        status = os.stat(path)
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
