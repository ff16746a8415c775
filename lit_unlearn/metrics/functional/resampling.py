"""Rows drawn anew with replacement, many times over, in portions that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CELLS_AT_ONCE = 4_000_000  # numbers held in one go: 32 MB


def portions(resamples: int, width: int) -> Iterator[int]:
    """Resamples in portions whose cells, ``width`` for each resample, fit in memory."""
    step = max(1, _CELLS_AT_ONCE // max(1, width))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def resampled_means(scores: Array, rng: np.random.Generator, resamples: int) -> Array:
    """``[S, R]`` means of ``[S, n]`` scores: all S scores of a column are drawn together."""
    count = scores.shape[1]
    parts: list[Array] = []
    for portion in portions(resamples, count):
        drawn = rng.integers(0, count, (portion, count))
        parts.append(np.stack([row[drawn].mean(axis=1) for row in scores]))
    return np.concatenate(parts, axis=1)


def resampled_counts(
    codes: NDArray[np.intp], distinct: int, rng: np.random.Generator, resamples: int
) -> Array:
    """``[R, K]``: how often each of K distinct values is drawn.

    Args:
        codes: ``[n]``, which of the distinct values each row has, 0 to K - 1.
        distinct: K.
        rng: Source of randomness.
        resamples: R.
    """
    drawn = codes[rng.integers(0, len(codes), (resamples, len(codes)))]
    flat = drawn + distinct * np.arange(resamples)[:, None]
    found = np.bincount(flat.ravel(), minlength=resamples * distinct)
    return found.reshape(resamples, distinct).astype(np.float64)
