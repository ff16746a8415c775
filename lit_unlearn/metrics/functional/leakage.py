"""Leakage over several sampled replies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lit_unlearn.errors import InputError

__all__ = ["leak_at_k"]


def leak_at_k(scores: Sequence[float], k: int) -> float:
    """Return leak@k, the expected highest score among k of a question's n sampled replies.

    Reisizadeh et al., "Leak@k" (arXiv 2511.04934). With scores of 0 and 1, of which c are 1, it is
    ``1 - C(n - c, k) / C(n, k)``, the unbiased pass@k of Chen et al. 2021 (arXiv 2107.03374, eq.
    1). In general it is ``sum_i C(i - 1, k - 1) / C(n, k) s_(i)`` over the scores in rising order.

    Args:
        scores: Score of each reply, n of them: whether it leaks, or how much of the answer.
        k: Number of replies, 1 to n.

    Returns:
        Value between the lowest and the highest score; NaN if a score is NaN.

    Raises:
        InputError: ``k`` is out of range.
    """
    if not 1 <= k <= len(scores):
        raise InputError(
            f"Parameter `k` should be from 1 to the number of replies. Found {k} for {len(scores)} "
            "replies; sample more, or lower it."
        )
    if any(math.isnan(score) for score in scores):
        return math.nan
    subsets = math.comb(len(scores), k)
    shares = [math.comb(rank, k - 1) / subsets for rank in range(len(scores))]
    return math.fsum(share * score for share, score in zip(shares, sorted(scores), strict=True))
