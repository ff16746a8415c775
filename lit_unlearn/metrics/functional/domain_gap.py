"""Distances of two domains' hidden states.

One row is one observation. Its hidden states are averaged over its answer positions first, since
positions of one row are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.resampling import exchanged_labels, permutation_p_value

__all__ = ["Discrepancy", "covariance_cka", "mmd", "proxy_a_distance"]

_FOLDS = 5
"""Parts of the rows that are left out of the training in turn."""
_RIDGE = 0.1
"""Penalty of the classifier, in units of a row's mean squared feature."""


class Discrepancy(NamedTuple):
    """Outcome of `mmd`."""

    squared: float
    """Unbiased estimate of MMD^2. For equal domains it is around 0, and half of the time below."""
    p_value: float
    """Share of exchanged labels that give at least as much."""
    bandwidth: float
    """Median distance of two rows, the kernel's sigma."""


# ------------------------------------------------------------------------------ proxy A-distance


def proxy_a_distance(first: Tensor, second: Tensor) -> float:
    """Return ``max(0, 2 (1 - 2 error))`` of a linear classifier: 2 where it always tells domains.

    Ben-David et al. 2007, "Analysis of Representations for Domain Adaptation", NeurIPS. The error
    is the mean of the two domains' errors on rows that were left out of the training
    (cross-validation), so that neither many features nor unequal numbers of rows make domains look
    apart. The classifier is a ridge regression on labels 1 and -1, with features standardised by
    the training rows.

    Args:
        first: ``[n, d]`` hidden states, at least 2 rows.
        second: ``[m, d]`` hidden states, at least 2 rows.

    Raises:
        InputError: Shapes do not fit, there are too few rows, or a number is not finite.
    """
    first, second = _checked(first, second)
    folds = max(2, min(_FOLDS, len(first), len(second)))
    parts = [_parts(len(sample), folds) for sample in (first, second)]
    wrong = torch.zeros(2, dtype=torch.float64)
    for fold in range(folds):
        train = [s[p != fold] for s, p in zip((first, second), parts, strict=True)]
        tested = [s[p == fold] for s, p in zip((first, second), parts, strict=True)]
        for index, scores in enumerate(_scores(train[0], train[1], tested)):
            margin = scores * (1 - 2 * index)
            wrong[index] += (margin < 0).sum() + (margin == 0).sum() / 2
    error = float((wrong / torch.tensor([len(first), len(second)])).mean())
    return max(0.0, 2 * (1 - 2 * error))


def _parts(count: int, folds: int) -> Tensor:
    """Return the part of each row, ``[count]``; all parts have nearly one size."""
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(count, generator=generator) % folds


def _scores(first: Tensor, second: Tensor, tested: Sequence[Tensor]) -> list[Tensor]:
    """Return a classifier's scores of rows, positive for the first domain.

    Args:
        first: ``[n, d]`` training rows. Both domains have the same total weight.
        second: ``[m, d]`` training rows.
        tested: ``[k, d]`` rows, any number of times.
    """
    rows = torch.cat([first, second])
    centre = (first.mean(0) + second.mean(0)) / 2
    spread = rows.std(0)
    spread = torch.where(spread > 1e-12 * (1 + centre.abs()), spread, torch.inf)
    labels = torch.ones(len(rows), dtype=torch.float64)
    labels[len(first) :] = -1
    sizes = torch.where(labels > 0, len(first), len(second))
    root = (len(rows) / (2 * sizes)).sqrt()
    slope = _ridge_regression((rows - centre) / spread * root[:, None], labels * root)
    return [((sample - centre) / spread) @ slope for sample in tested]


def _ridge_regression(rows: Tensor, labels: Tensor) -> Tensor:
    """Return the slope, ``[d]``; solved over rows or over features, whichever are fewer."""
    penalty = _RIDGE * (float((rows**2).sum(1).mean()) or 1.0)
    if len(rows) <= rows.shape[1]:
        kernel = rows @ rows.T
        kernel.diagonal().add_(penalty)
        dual: Tensor = torch.linalg.solve(kernel, labels)
        return rows.T @ dual
    square = rows.T @ rows
    square.diagonal().add_(penalty)
    slope: Tensor = torch.linalg.solve(square, rows.T @ labels)
    return slope


# ------------------------------------------------------------------------ maximum mean discrepancy


def mmd(first: Tensor, second: Tensor, *, permutations: int = 500) -> Discrepancy:
    """Return the unbiased squared MMD with the kernel ``exp(-|x - y|^2 / (2 sigma^2))``.

    Gretton et al. 2012, "A Kernel Two-Sample Test", JMLR 13, eq. 3. Sigma is the median distance of
    two rows of both samples together (section 8), so that the scale of the hidden states does not
    matter. Two domains that are points far from each other then have ``2 - 2 exp(-1 / 2)`` = 0.787,
    since most distances are those between the domains.

    Args:
        first: ``[n, d]`` hidden states, at least 2 rows.
        second: ``[m, d]`` hidden states, at least 2 rows.
        permutations: How often labels are exchanged.

    Raises:
        InputError: Shapes do not fit, there are too few rows, or a number is not finite.
    """
    first, second = _checked(first, second)
    kernel, bandwidth = _kernel(torch.cat([first, second]))
    values = _squared(kernel, exchanged_labels(len(first), len(kernel), permutations))
    return Discrepancy(float(values[0]), permutation_p_value(values.tolist()), bandwidth)


def _kernel(rows: Tensor) -> tuple[Tensor, float]:
    """Return the kernel without its diagonal, ``[N, N]``, and the median distance."""
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    above = torch.ones_like(distances, dtype=torch.bool).triu(diagonal=1)
    bandwidth = float(distances[above].median())
    bandwidth = bandwidth or float(distances.max()) or 1.0  # most rows equal, or all of them
    return (-((distances / bandwidth) ** 2) / 2).exp().fill_diagonal_(0.0), bandwidth


def _squared(kernel: Tensor, labels: Tensor) -> Tensor:
    """Return squared discrepancies, ``[P]``, for ``[P, N]`` labels 1 (first) and 0 (second)."""
    n, m = labels[0].sum(), (1 - labels[0]).sum()
    to_first, to_second = labels @ kernel, (1 - labels) @ kernel
    within = (to_first * labels).sum(1) / (n * (n - 1))
    within = within + (to_second * (1 - labels)).sum(1) / (m * (m - 1))
    return within - 2 * (to_first * (1 - labels)).sum(1) / (n * m)


def covariance_cka(first: Tensor, second: Tensor) -> float:
    """Return ``tr(C1 C2) / (|C1| |C2|)`` of two domains' covariances.

    It is linear CKA (Kornblith et al. 2019, "Similarity of Neural Network Representations
    Revisited", section 3) with features in place of rows, since rows of two domains do not
    correspond. Each domain is centred, so that the distance of their means does not count. 1 for
    covariances equal up to scale, 0 for domains that vary in orthogonal directions.

    Args:
        first: ``[n, d]`` hidden states, at least 2 rows.
        second: ``[m, d]`` hidden states, at least 2 rows.

    Returns:
        0 to 1; NaN where one of the two does not vary.

    Raises:
        InputError: Shapes do not fit, there are too few rows, or a number is not finite.
    """
    x, y = (sample - sample.mean(0) for sample in _checked(first, second))
    size = float((x @ x.T).norm() * (y @ y.T).norm())  # |X' X| = |X X'|
    return float((x @ y.T).norm() ** 2) / size if size > 0 else math.nan


# ---------------------------------------------------------------------------------- both samples


def _checked(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return both samples in float64 on the CPU, after checks of shapes and numbers."""
    shapes = tuple(first.shape), tuple(second.shape)
    if first.dim() != 2 or second.dim() != 2 or first.shape[1] != second.shape[1]:
        raise InputError(
            "Parameters `first` and `second` should be [n, d] and [m, d], one vector per row. "
            f"Found {list(shapes[0])} and {list(shapes[1])}."
        )
    if min(len(first), len(second)) < 2:
        raise InputError(
            "Parameters `first` and `second` should have at least 2 rows each. Found "
            f"{len(first)} and {len(second)}; give more rows of both domains."
        )
    wide = first.detach().cpu().double(), second.detach().cpu().double()
    if not all(bool(sample.isfinite().all()) for sample in wide):
        raise InputError(
            "Parameters `first` and `second` should hold finite numbers. Found NaN or infinity; "
            "load the model in float32 or bfloat16."
        )
    return wide
