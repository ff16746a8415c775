"""How far two domains lie apart: pure functions of hidden states and of tokens.

A row is one observation: of its answer positions the mean hidden state counts, since positions of
one row are not independent of each other.
"""

from lit_unlearn.metrics.functional.domain_gap.a_distance import proxy_a_distance
from lit_unlearn.metrics.functional.domain_gap.mmd import Discrepancy, mmd
from lit_unlearn.metrics.functional.domain_gap.similarity import covariance_cka, linear_cka
from lit_unlearn.metrics.functional.domain_gap.tokens import (
    Divergence,
    jensen_shannon,
    token_divergence,
)

__all__ = [
    "Discrepancy",
    "Divergence",
    "covariance_cka",
    "jensen_shannon",
    "linear_cka",
    "mmd",
    "proxy_a_distance",
    "token_divergence",
]
