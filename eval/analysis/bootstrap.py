"""How far a score would move with other images of the same kind: bootstrap intervals.

Images are drawn with replacement, as many as there are. Nothing is matched again: an image that is
drawn twice counts twice.

Axes: I images, K classes, B resamples.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from .tallies.tally import Tally, mean_of_classes, whole

RESAMPLES = 1000
SEED = 0
COVERAGE = 0.95


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervals:
    """Scores with the ranges that hold the middle 95 percent of the resamples' scores.

    Attributes:
        score: of all classes, as a fraction.
        low, high: the ends of its range.
        class_scores: of each class; NaN where it has nothing to score.
        class_low, class_high: the ends of their ranges, over the resamples that have the class.
    """

    score: float
    low: float
    high: float
    class_scores: Float64[np.ndarray, "K"]
    class_low: Float64[np.ndarray, "K"]
    class_high: Float64[np.ndarray, "K"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Differences(Intervals):
    """Differences of scores, second minus first, with their ranges on the same resamples.

    Attributes:
        better: the part of the resamples in which the second is better than the first.
    """

    better: float


def drawn_images(num_images: int, resamples: int, seed: int) -> Int64[np.ndarray, "B I"]:
    """Returns how many times each image is in each resample."""
    if not num_images:
        return np.zeros((resamples, 0), np.int64)
    generator = np.random.default_rng(seed)
    shares = np.full(num_images, 1 / num_images)
    return generator.multinomial(num_images, shares, size=resamples).astype(np.int64, copy=False)


def intervals(tally: Tally, resamples: int = RESAMPLES, seed: int = SEED) -> Intervals:
    """Returns the scores of a tally with their intervals."""
    weights = drawn_images(len(tally.images), resamples, seed)
    now = tally.class_scores(whole(len(tally.images)))[0]
    samples = tally.class_scores(weights)
    return Intervals(**_summary(now, mean_of_classes(now), samples, mean_of_classes(samples)))


def differences(
    first: Tally, second: Tally, resamples: int = RESAMPLES, seed: int = SEED
) -> Differences:
    """Returns what changed from the first to the second tally, of the same images and classes."""
    weights = drawn_images(len(first.images), resamples, seed)
    now, samples = (
        [tally.class_scores(which) for tally in (first, second)]
        for which in (whole(len(first.images)), weights)
    )
    change, means = now[1][0] - now[0][0], [mean_of_classes(scores) for scores in samples]
    mean = mean_of_classes(now[1][0]) - mean_of_classes(now[0][0])
    summary = _summary(change, mean, samples[1] - samples[0], means[1] - means[0])
    known = ~np.isnan(means[1] - means[0])
    better = (means[1] > means[0])[known]
    return Differences(**summary, better=float(better.mean()) if len(better) else np.nan)


def _summary(
    class_scores: Float64[np.ndarray, "K"],
    score: Float64[np.ndarray, ""] | np.float64,
    class_samples: Float64[np.ndarray, "B K"],
    samples: Float64[np.ndarray, "B"],
) -> dict:
    class_low, class_high = percentiles(class_samples)
    low, high = percentiles(samples[:, None])
    return {
        "score": float(score),
        "low": float(low[0]),
        "high": float(high[0]),
        "class_scores": class_scores,
        "class_low": class_low,
        "class_high": class_high,
    }


def percentiles(samples: Float64[np.ndarray, "B K"]) -> Float64[np.ndarray, "2 K"]:
    """Returns the ends of the middle 95 percent of each column; NaN where all is NaN."""
    ends = np.full((2, samples.shape[1]), np.nan)
    tail = (1 - COVERAGE) / 2
    for k, column in enumerate(samples.T):
        known = column[~np.isnan(column)]
        if len(known):
            ends[:, k] = np.quantile(known, [tail, 1 - tail])
    return ends
