"""Divergence of two domains' token frequencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.domain_gap.samples import exchanged, p_value


class Divergence(NamedTuple):
    """Outcome for two domains."""

    bits: float
    """Jensen-Shannon divergence, 0 to 1 bit."""
    by_chance: float
    """Mean of the same with rows dealt out anew: small samples differ by chance alone."""
    p_value: float


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence in bits (Lin 1991, Eq. 4.1 with equal weights).

    Args:
        first: ``[..., V]`` counts or probabilities.
        second: The same shape.

    Returns:
        ``[...]``, float64: 0 for equal distributions, 1 where no token is in both. NaN where a
        distribution has no mass.
    """
    p, q = (x.double() / x.double().sum(-1, keepdim=True) for x in (first, second))
    middle = (p + q) / 2
    return ((_information(p, middle) + _information(q, middle)) / 2).clamp(0, 1)


def _information(p: Tensor, q: Tensor) -> Tensor:
    """Kullback-Leibler divergence in bits; tokens without mass in ``p`` add nothing."""
    ratio = torch.where(p == 0, 1.0, p / q)  # a NaN stays one
    return (p * ratio.log2()).sum(-1)


def token_divergence(
    first: Sequence[Sequence[int]],
    second: Sequence[Sequence[int]],
    *,
    permutations: int = 200,
    seed: int = 0,
) -> Divergence:
    """Jensen-Shannon divergence of the tokens of two domains, and what chance alone would give.

    Args:
        first: Token ids of each row, at least 2 rows.
        second: The same of the other domain.
        permutations: Times that rows are dealt out anew to the two domains.
        seed: Of the dealing.

    Raises:
        InputError: Too few rows, or a domain without any token.
    """
    if min(len(first), len(second)) < 2 or not any(first) or not any(second):
        raise InputError(
            "Parameters `first` and `second` should hold the tokens of at least 2 rows each. Found "
            f"{len(first)} and {len(second)} rows with {sum(map(len, first))} and "
            f"{sum(map(len, second))} tokens."
        )
    counts = _counts([*first, *second])
    labels = torch.zeros(1, len(counts), dtype=torch.float64)
    labels[0, : len(first)] = 1
    dealt = torch.cat([labels, exchanged(len(counts), len(first), permutations, seed)])
    values: list[float] = [float(jensen_shannon(row @ counts, (1 - row) @ counts)) for row in dealt]
    chance = [value for value in values[1:] if not math.isnan(value)]
    mean = sum(chance) / len(chance) if chance else math.nan
    return Divergence(values[0], mean, p_value(values[0], chance))


def _counts(rows: Sequence[Sequence[int]]) -> Tensor:
    """``[N, K]`` float64: how often each row has each token that occurs at all."""
    flat = torch.tensor([token for row in rows for token in row])
    which = torch.tensor([index for index, row in enumerate(rows) for _ in row])
    known, codes = flat.unique(return_inverse=True)
    counts = torch.zeros(len(rows), len(known), dtype=torch.float64)
    return counts.index_put_((which, codes), torch.ones(len(flat)).double(), accumulate=True)
