"""Divergence of tokens: closed forms, and one domain dealt out to two samples."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.token_divergence import jensen_shannon, token_divergence


def test_jensen_shannon_worked_value() -> None:
    """p = (1, 0), q = (1/2, 1/2): m = (3/4, 1/4); (log2(4/3) + (log2(2/3) + 1) / 2) / 2."""
    expected = (math.log2(4 / 3) + (math.log2(2 / 3) + math.log2(2)) / 2) / 2
    found = jensen_shannon(torch.tensor([2.0, 0.0]), torch.tensor([3.0, 3.0]))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_token_divergence_of_equal_and_disjoint_domains() -> None:
    rows = [[1, 2, 2], [3, 1], [4, 5, 5, 1]]
    same = token_divergence(rows, rows)
    assert same.bits == 0.0
    assert same.p_value == 1.0
    others = [[token + 100 for token in row] for row in rows * 3]
    disjoint = token_divergence(rows * 3, others)
    assert disjoint.bits == 1.0
    assert disjoint.by_chance < 0.5
    assert disjoint.p_value < 0.02


def test_token_divergence_by_chance_is_that_of_one_domain() -> None:
    """Mean over pairs of samples from one uniform distribution; none of them is a gap."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(10):
        tokens = torch.randint(0, 50, (40, 10), generator=generator).tolist()
        found.append(token_divergence(tokens[:20], tokens[20:], permutations=50))
    bits = sum(one.bits for one in found) / len(found)
    assert bits == pytest.approx(sum(one.by_chance for one in found) / len(found), rel=0.1)
    assert bits > 0.05
    assert min(one.p_value for one in found) <= 0.5 <= max(one.p_value for one in found)


def test_rows_without_tokens_are_named() -> None:
    with pytest.raises(InputError, match=r"2 and 0 tokens"):
        token_divergence([[1], [2]], [[], []])
