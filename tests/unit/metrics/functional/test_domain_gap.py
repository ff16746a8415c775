"""Measures of the gap between domains: closed forms, naive loops, and domains of known gap."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.domain_gap import (
    covariance_cka,
    mmd,
    proxy_a_distance,
)


def normal(rows: int, width: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator) + shift


def apart(rows: int = 20, width: int = 6) -> tuple[Tensor, Tensor]:
    """Two points far from each other, with next to no spread."""
    return 1e-9 * normal(rows, width, 0), 1e-9 * normal(rows, width, 1) + 1.0


# -------------------------------------------------------------------------------------------- MMD


def naive_mmd(first: Tensor, second: Tensor) -> float:
    """Gretton et al. 2012, Eq. 3, sum by sum; sigma is the median of all distances."""
    rows = [*first.double(), *second.double()]
    distances = sorted(float((x - y).norm()) for i, x in enumerate(rows) for y in rows[i + 1 :])
    sigma = distances[(len(distances) - 1) // 2]

    def kernel(x: Tensor, y: Tensor) -> float:
        return math.exp(-(float((x - y).norm()) ** 2) / (2 * sigma**2))

    def within(sample: list[Tensor]) -> float:
        pairs = [(x, y) for i, x in enumerate(sample) for j, y in enumerate(sample) if i != j]
        return sum(kernel(x, y) for x, y in pairs) / len(pairs)

    one, two = rows[: len(first)], rows[len(first) :]
    between = sum(kernel(x, y) for x in one for y in two) / (len(one) * len(two))
    return within(one) + within(two) - 2 * between


def test_mmd_equals_the_naive_sums() -> None:
    first, second = normal(7, 3, 0), normal(5, 3, 1, 0.4)
    assert mmd(first, second).squared == pytest.approx(naive_mmd(first, second), rel=1e-10)


def test_mmd_of_two_far_points_is_the_closed_form() -> None:
    found = mmd(*apart())
    assert found.squared == pytest.approx(2 - 2 * math.exp(-0.5), rel=1e-6)
    assert found.p_value == pytest.approx(1 / 501)
    assert found.bandwidth == pytest.approx(math.sqrt(6), rel=1e-6)


def test_mmd_of_a_domain_with_itself_is_no_gap() -> None:
    rows = normal(20, 6, 0)
    assert mmd(rows, rows).squared < 0
    assert mmd(rows, rows).p_value > 0.9
    same = torch.ones(4, 2)
    assert mmd(same, same) == (0.0, 1.0, 1.0)


def test_mmd_p_values_are_uniform_under_the_null_hypothesis() -> None:
    """Of 100 pairs from one domain about 10 have p <= 0.1: 2 to 20 with probability 0.999."""
    values = [
        mmd(normal(8, 3, 2 * s), normal(8, 3, 2 * s + 1), permutations=99).p_value
        for s in range(100)
    ]
    assert 2 <= sum(p <= 0.1 for p in values) <= 20
    assert 35 <= sum(p <= 0.5 for p in values) <= 65


def test_mmd_knows_no_order_scale_or_rotation() -> None:
    first, second = normal(9, 4, 0), normal(6, 4, 1, 0.5)
    value = mmd(first, second).squared
    turn = torch.linalg.qr(normal(4, 4, 2).double())[0].float()
    for changed in (
        mmd(second, first),
        mmd(first.flip(0), second),
        mmd(1000 * first, 1000 * second),
        mmd(first @ turn + 3, second @ turn + 3),
    ):
        assert changed.squared == pytest.approx(value, rel=1e-4)


# ------------------------------------------------------------------------------------- A-distance


def test_a_distance_of_disjoint_and_equal_domains() -> None:
    assert proxy_a_distance(*apart()) == 2.0
    rows = normal(40, 6, 0)
    assert proxy_a_distance(rows, rows) == 0.0
    assert proxy_a_distance(torch.ones(5, 3), torch.ones(5, 3)) == 0.0


def test_a_distance_does_not_overfit() -> None:
    """More features than rows: every training set is separable, what is left out is not."""
    found = [proxy_a_distance(normal(20, 100, s), normal(20, 100, 99 + s)) for s in range(5)]
    assert sum(found) / len(found) < 0.5


def test_a_distance_of_shifted_normals_nears_the_best_classifier() -> None:
    """Means 2 apart, unit spread: the best error is Phi(-1) = 0.1587, so 2 (1 - 2 * 0.1587)."""
    first, second = normal(2000, 1, 0, -1.0), normal(1000, 1, 1, 1.0)
    assert proxy_a_distance(first, second) == pytest.approx(2 * (1 - 2 * 0.1587), abs=0.08)


# -------------------------------------------------------------------------------------------- CKA


def test_covariance_cka_equals_the_naive_ratio_and_its_ends() -> None:
    x, y = normal(9, 4, 0).double(), normal(7, 4, 1, 3.0).double()
    one, two = torch.cov(x.T), torch.cov(y.T)
    expected = torch.trace(one @ two) / (one.norm() * two.norm())
    assert covariance_cka(x, y) == pytest.approx(float(expected), rel=1e-10)
    assert covariance_cka(x, 2 * x + 7) == pytest.approx(1.0)
    left, right = torch.zeros(9, 4), torch.zeros(9, 4)
    left[:, :2], right[:, 2:] = normal(9, 2, 0), normal(9, 2, 1)
    assert covariance_cka(left, right) == pytest.approx(0.0, abs=1e-12)


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("measure", [mmd, proxy_a_distance, covariance_cka])
def test_bad_samples_are_named(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(InputError, match=r"\[3, 2\] and \[3, 4\]"):
        measure(torch.ones(3, 2), torch.ones(3, 4))
    with pytest.raises(InputError, match="at least 2 rows"):
        measure(torch.ones(1, 2), torch.ones(3, 2))
    with pytest.raises(InputError, match="finite"):
        measure(torch.full((3, 2), math.nan), torch.ones(3, 2))
