"""Maximum mean discrepancy with a Gaussian kernel, and its permutation test.

Gretton et al. 2012, "A Kernel Two-Sample Test", JMLR 13.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_unlearn.metrics.functional.domain_gap.samples import checked, exchanged, p_value


class Discrepancy(NamedTuple):
    """Outcome of the two-sample test."""

    squared: float
    """Unbiased estimate of MMD^2; around 0 for one and the same domain, and then below it half of
    the time."""
    p_value: float
    """Of exchanged labels: small where the two domains differ."""
    bandwidth: float
    """Median distance of two rows, the kernel's sigma."""


def mmd(first: Tensor, second: Tensor, *, permutations: int = 500, seed: int = 0) -> Discrepancy:
    """Unbiased squared MMD (Eq. 3) with the kernel ``exp(-|x - y|^2 / (2 sigma^2))``.

    Sigma is the median distance of two rows of both samples together (section 8), so that the scale
    of the hidden states does not matter. Two domains that are points far from each other then have
    ``2 - 2 exp(-1 / 2)`` = 0.787; most of the distances are those between them.

    Args:
        first: ``[n, d]``, at least 2 rows.
        second: ``[m, d]``, at least 2 rows.
        permutations: Times that rows are dealt out anew to the two samples.
        seed: Of the dealing.

    Raises:
        InputError: See `checked`.
    """
    first, second = checked(first, second, least=2)
    kernel, bandwidth = _kernel(torch.cat([first, second]))
    count = len(first)
    labels = torch.zeros(1, len(kernel), dtype=torch.float64)
    labels[0, :count] = 1
    dealt = exchanged(len(kernel), count, permutations, seed)
    values = _squared(kernel, torch.cat([labels, dealt]))
    return Discrepancy(float(values[0]), p_value(float(values[0]), values[1:].tolist()), bandwidth)


def _kernel(rows: Tensor) -> tuple[Tensor, float]:
    """``[N, N]`` kernel without its diagonal, and the median distance."""
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    above = torch.ones_like(distances, dtype=torch.bool).triu(diagonal=1)
    bandwidth = float(distances[above].median())
    bandwidth = bandwidth or float(distances.max()) or 1.0  # most rows equal, or all of them
    return (-((distances / bandwidth) ** 2) / 2).exp().fill_diagonal_(0.0), bandwidth


def _squared(kernel: Tensor, labels: Tensor) -> Tensor:
    """``[P]`` squared discrepancies, for ``[P, N]`` labels 1 (first) and 0 (second)."""
    n, m = labels[0].sum(), (1 - labels[0]).sum()
    to_first, to_second = labels @ kernel, (1 - labels) @ kernel
    within = (to_first * labels).sum(1) / (n * (n - 1))
    within = within + (to_second * (1 - labels)).sum(1) / (m * (m - 1))
    return within - 2 * (to_first * (1 - labels)).sum(1) / (n * m)
