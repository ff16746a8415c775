"""Proxy A-distance: how well a linear classifier tells two domains apart.

Ben-David et al. 2007, "Analysis of Representations for Domain Adaptation", NeurIPS.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_unlearn.metrics.functional.domain_gap.samples import checked

RIDGE = 0.1
"""Penalty of the classifier, in units of a row's mean squared feature."""


def proxy_a_distance(
    first: Tensor, second: Tensor, *, folds: int = 5, ridge: float = RIDGE, seed: int = 0
) -> float:
    """``2 (1 - 2 error)`` of a linear classifier, at least 0: 2 for domains that it always tells.

    The error is the mean of the two domains' errors on rows that were left out of the training
    (cross-validation), so that neither more features than rows nor unequal numbers of rows make
    domains look apart. The classifier is a ridge regression on labels 1 and -1, features
    standardised by the training rows.

    Args:
        first: ``[n, d]``, at least 2 rows.
        second: ``[m, d]``, at least 2 rows.
        folds: Parts that are left out in turn; at most the rows of the smaller domain.
        ridge: Penalty; a larger one comes closer to comparing the domains' means alone.
        seed: Of the parts.

    Raises:
        InputError: See `checked`.
    """
    first, second = checked(first, second, least=2)
    folds = max(2, min(folds, len(first), len(second)))
    parts = [_parts(len(sample), folds, seed) for sample in (first, second)]
    wrong = torch.zeros(2, dtype=torch.float64)
    for fold in range(folds):
        train = [s[p != fold] for s, p in zip((first, second), parts, strict=True)]
        score = _classifier(train[0], train[1], ridge)
        for index, (sample, part) in enumerate(zip((first, second), parts, strict=True)):
            scores = score(sample[part == fold]) * (1 - 2 * index)
            wrong[index] += (scores < 0).sum() + (scores == 0).sum() / 2
    error = float((wrong / torch.tensor([len(first), len(second)])).mean())
    return max(0.0, 2 * (1 - 2 * error))


def _parts(count: int, folds: int, seed: int) -> Tensor:
    """``[count]``: the part of each row, all of nearly one size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator) % folds


class _classifier:  # noqa: N801 - a function that keeps what it has learnt
    """Scores of rows ``[N, d]``: positive for the first domain. Both domains weigh the same."""

    def __init__(self, first: Tensor, second: Tensor, ridge: float) -> None:
        rows = torch.cat([first, second])
        self.centre = (first.mean(0) + second.mean(0)) / 2
        spread = rows.std(0)
        self.spread = torch.where(spread > 1e-12 * (1 + self.centre.abs()), spread, torch.inf)
        labels = torch.ones(len(rows), dtype=torch.float64)
        labels[len(first) :] = -1
        sizes = torch.where(labels > 0, len(first), len(second))
        root = (len(rows) / (2 * sizes)).sqrt()
        self.slope = _ridge_regression(self._scaled(rows) * root[:, None], labels * root, ridge)

    def _scaled(self, rows: Tensor) -> Tensor:
        return (rows - self.centre) / self.spread

    def __call__(self, rows: Tensor) -> Tensor:
        return self._scaled(rows) @ self.slope


def _ridge_regression(rows: Tensor, labels: Tensor, ridge: float) -> Tensor:
    """``[d]``: solved over rows or over features, whichever are fewer."""
    penalty = ridge * (float((rows**2).sum(1).mean()) or 1.0)
    if len(rows) <= rows.shape[1]:
        kernel = rows @ rows.T
        kernel.diagonal().add_(penalty)
        dual: Tensor = torch.linalg.solve(kernel, labels)
        return rows.T @ dual
    square = rows.T @ rows
    square.diagonal().add_(penalty)
    slope: Tensor = torch.linalg.solve(square, rows.T @ labels)
    return slope
