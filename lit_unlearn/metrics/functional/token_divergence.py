"""Divergence of two domains' token frequencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.resampling import exchanged_labels, permutation_p_value

__all__ = ["Divergence", "jensen_shannon", "token_divergence"]


class Divergence(NamedTuple):
    """Outcome of `token_divergence`."""

    bits: float
    """Jensen-Shannon divergence, 0 to 1 bit."""
    by_chance: float
    """Mean divergence under exchanged labels; small samples differ by chance alone."""
    p_value: float
    """Share of exchanged labels that give at least as much."""


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence in bits (Lin 1991, eq. 4.1 with equal weights).

    Args:
        first: ``[..., V]`` counts or probabilities.
        second: Tensor of the same shape.

    Returns:
        ``[...]``, float64: 0 for equal distributions, 1 where no token is in both, NaN where a
        distribution has no mass.
    """
    p, q = (x.double() / x.double().sum(-1, keepdim=True) for x in (first, second))
    middle = (p + q) / 2
    # scipy's function returns the root, whose square has other last digits
    information = [(x * torch.where(x == 0, 1.0, x / middle).log2()).sum(-1) for x in (p, q)]
    return ((information[0] + information[1]) / 2).clamp(0, 1)


def token_divergence(
    first: Sequence[Sequence[int]],
    second: Sequence[Sequence[int]],
    *,
    permutations: int = 200,
) -> Divergence:
    """Return the Jensen-Shannon divergence of two domains' tokens, and that by chance alone.

    Args:
        first: Token ids of each row, at least 2 rows.
        second: Token ids of each row of the other domain.
        permutations: How often labels are exchanged.

    Raises:
        InputError: There are too few rows, or a domain has no token.
    """
    if min(len(first), len(second)) < 2 or not any(first) or not any(second):
        raise InputError(
            "Parameters `first` and `second` should hold the tokens of at least 2 rows each. Found "
            f"{len(first)} and {len(second)} rows with {sum(map(len, first))} and "
            f"{sum(map(len, second))} tokens."
        )
    counts = _counts([*first, *second])
    labels = exchanged_labels(len(first), len(counts), permutations)
    values = [float(jensen_shannon(row @ counts, (1 - row) @ counts)) for row in labels]
    values = [values[0], *(value for value in values[1:] if not math.isnan(value))]
    chance = values[1:]
    mean = sum(chance) / len(chance) if chance else math.nan
    return Divergence(values[0], mean, permutation_p_value(values))


def _counts(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return how often each row has each token that occurs at all, ``[N, K]`` float64."""
    flat = torch.tensor([token for row in rows for token in row])
    which = torch.tensor([index for index, row in enumerate(rows) for _ in row])
    known, codes = flat.unique(return_inverse=True)
    counts = torch.zeros(len(rows), len(known), dtype=torch.float64)
    return counts.index_put_((which, codes), torch.ones(len(flat)).double(), accumulate=True)
