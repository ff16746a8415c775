"""Random draws for intervals and tests: rows with replacement, and exchanged labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Array",
    "exchanged_labels",
    "permutation_p_value",
    "portions",
    "resampled_counts",
    "resampled_means",
]

Array = NDArray[np.float64]

_CELLS_AT_ONCE = 4_000_000  # numbers held at a time: 32 MB


def portions(resamples: int, width: int) -> Iterator[int]:
    """Yield sizes of portions of resamples that fit in memory, ``width`` cells each."""
    step = max(1, _CELLS_AT_ONCE // max(1, width))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def resampled_means(scores: Array, rng: np.random.Generator, resamples: int) -> Array:
    """Return ``[S, R]`` means of ``[S, n]`` scores; all S scores of a column are drawn together."""
    count = scores.shape[1]
    parts: list[Array] = []
    for portion in portions(resamples, count):
        drawn = rng.integers(0, count, (portion, count))
        parts.append(np.stack([row[drawn].mean(axis=1) for row in scores]))
    return np.concatenate(parts, axis=1)


def resampled_counts(
    codes: NDArray[np.intp], distinct: int, rng: np.random.Generator, resamples: int
) -> Array:
    """Return how often each of K distinct values is drawn, ``[R, K]``.

    Args:
        codes: ``[n]``, index of each row's value, 0 to K - 1.
        distinct: K.
        rng: Source of randomness.
        resamples: R.
    """
    drawn = codes[rng.integers(0, len(codes), (resamples, len(codes)))]
    flat = drawn + distinct * np.arange(resamples)[:, None]
    found = np.bincount(flat.ravel(), minlength=resamples * distinct)
    return found.reshape(resamples, distinct).astype(np.float64)


def exchanged_labels(chosen: int, count: int, permutations: int) -> Tensor:
    """Return labels 1 of the first sample and 0 of the second, ``[1 + P, count]`` float64.

    Args:
        chosen: Rows of the first sample; row 0 of the result labels these.
        count: Rows of both samples.
        permutations: P; the other rows of the result label as many at random.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(permutations, count, generator=generator).argsort(dim=1)
    return (torch.cat([torch.arange(count)[None], order]) < chosen).double()


def permutation_p_value(values: Sequence[float]) -> float:
    """Return ``(1 + b) / (1 + P)``, b being those of P values that reach the first, observed one.

    Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero".
    """
    observed, others = values[0], values[1:]
    tolerance = 1e-12 * max(1.0, abs(observed))
    return (1 + sum(value >= observed - tolerance for value in others)) / (1 + len(others))
