from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.gradients.diagnostics import norms, update_norm
from lit_unlearn.gradients.weighting import (
    ALL_ORDERS_UP_TO,
    MGDA,
    MGDA_LIMIT,
    Fixed,
    PCGrad,
    Weighting,
)
from lit_unlearn.schema import InputError
from tests import asserts
from tests.inputs import GRAMIANS, JACOBIANS, jacobian

WEIGHTINGS = {
    "fixed": Fixed(),
    "pcgrad": PCGrad(),
    "mgda": MGDA(),
    "mgda_normalize": MGDA(normalize=True),
}
PROPERTIES = [
    asserts.assert_well_formed,
    asserts.assert_finite_for_zero_gradients,
    asserts.assert_permutation_equivariant,
    asserts.assert_scale_invariant,
]


@pytest.mark.parametrize("property_", PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("gramian", GRAMIANS.values(), ids=GRAMIANS)
@pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
def test_properties_of_all(
    weighting: Weighting, gramian: Tensor, property_: Callable[[Weighting, Tensor], None]
) -> None:
    property_(weighting, gramian)


@pytest.mark.parametrize("gramian", GRAMIANS.values(), ids=GRAMIANS)
@pytest.mark.parametrize("weighting", [MGDA(), MGDA(normalize=True)], ids=["plain", "normalize"])
def test_properties_of_mgda(weighting: MGDA, gramian: Tensor) -> None:
    asserts.assert_non_conflicting(weighting, gramian)
    asserts.assert_nothing_for_the_dead(weighting, gramian)


@pytest.mark.parametrize("gramian", GRAMIANS.values(), ids=GRAMIANS)
def test_properties_of_pcgrad(gramian: Tensor) -> None:
    asserts.assert_leaves_harmony_alone(PCGrad(), gramian)
    if len(gramian) <= 2:
        asserts.assert_non_conflicting(PCGrad(), gramian)


def test_fixed() -> None:
    assert not Fixed.needs_gramian
    assert Fixed()(GRAMIANS["random_4"]).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("weighting", [PCGrad(), MGDA()], ids=["pcgrad", "mgda"])
def test_non_finite_gradients_come_through(weighting: Weighting, value: float) -> None:
    gramian = GRAMIANS["random_3"].clone()
    gramian[1, 1] = value
    assert weighting(gramian).isnan().all()


# ----------------------------------------------------------------------------------------- PCGrad


def test_pcgrad_two_objectives_in_conflict() -> None:
    """g1 = (1, 0), g2 = (-1, 1): <g1, g2> = -1, |g1|^2 = 1, |g2|^2 = 2.

    g1' = g1 + 1/2 g2 = (1/2, 1/2), which is orthogonal to g2; g2' = g2 + 1/1 g1 = (0, 1),
    orthogonal to g1. The sum is (1 + 1) g1 + (1 + 1/2) g2 = (1/2, 3/2).
    """
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    weights = PCGrad()(rows @ rows.T)
    assert_close(weights, torch.tensor([2.0, 1.5], dtype=torch.float64))
    assert_close(weights @ rows, torch.tensor([0.5, 1.5], dtype=torch.float64))


def test_pcgrad_opposite_gradients_cancel() -> None:
    """g2 = -3 g1: g1' = g1 - g1 = 0 and g2' = 0, whatever the norms."""
    rows = JACOBIANS["opposite_unequal"]
    assert_close(PCGrad()(rows @ rows.T) @ rows, torch.zeros(20, dtype=torch.float64))


def test_pcgrad_three_objectives_by_both_orders() -> None:
    """Unit vectors at 0, 120 and 240 degrees: all inner products are -1/2.

    From g1 with order (2, 3): g1' = g1 + 1/2 g2; <g1', g3> = -1/2 - 1/4 = -3/4, so
    g1'' = g1 + 1/2 g2 + 3/4 g3. The other order swaps 1/2 and 3/4; the mean of both is
    g1 + 5/8 (g2 + g3). By symmetry each objective ends with 1 + 5/8 + 5/8 = 9/4.
    """
    cosine = torch.full((3, 3), -0.5, dtype=torch.float64).fill_diagonal_(1.0)
    assert_close(PCGrad()(cosine), torch.full((3,), 2.25, dtype=torch.float64))


def test_pcgrad_equals_the_mean_of_the_papers_random_orders() -> None:
    """Algorithm 1 on the gradients themselves, with 2000 draws from a fixed seed."""
    rows = JACOBIANS["conflicting"][:, :6]
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(6, dtype=torch.float64)
    draws = 2000
    for _ in range(draws):
        for i in range(len(rows)):
            projected = rows[i].clone()
            for j in torch.randperm(len(rows), generator=generator).tolist():
                inner = projected @ rows[j]
                if j != i and inner < 0:
                    projected -= inner / (rows[j] @ rows[j]) * rows[j]
            total += projected / draws
    exact = PCGrad()(rows @ rows.T) @ rows
    assert (total - exact).norm() < 0.02 * exact.norm()


def test_pcgrad_with_many_objectives_takes_rotations() -> None:
    """Two objectives in conflict, the others orthogonal to all: any order gives the same."""
    count = ALL_ORDERS_UP_TO + 3
    cosine = torch.eye(count, dtype=torch.float64)
    cosine[0, 1] = cosine[1, 0] = -0.25
    expected = torch.ones(count, dtype=torch.float64)
    expected[:2] = 1.25
    assert_close(PCGrad()(cosine), expected)


@pytest.mark.parametrize("seed", range(10))
def test_pcgrad_equals_torchjd_for_two(seed: int) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = jacobian(2, 5, seed)
    gramian = rows @ rows.T
    assert_close(PCGrad()(gramian), aggregation.PCGradWeighting()(gramian))
    assert_close(PCGrad()(gramian) @ rows, aggregation.PCGrad()(rows))


# ------------------------------------------------------------------------------------------- MGDA


def test_mgda_two_objectives_in_conflict() -> None:
    """g1 = (1, 0), g2 = (-1, 1): minimise |w g1 + (1 - w) g2|^2.

    The solution has <u, g1 - g2> = 0: w = (|g2|^2 - <g1, g2>) / |g1 - g2|^2 = (2 + 1) / 5 = 3/5.
    u = (3/5 - 2/5, 2/5) = (1/5, 2/5); <u, g1> = <u, g2> = 1/5 = |u|^2.
    """
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    weights = MGDA()(rows @ rows.T)
    assert_close(weights, torch.tensor([0.6, 0.4], dtype=torch.float64))
    assert_close(weights @ rows, torch.tensor([0.2, 0.4], dtype=torch.float64))


def test_mgda_normalized_two_objectives_in_conflict() -> None:
    """The same gradients: |g1| = 1, |g2| = sqrt 2, geometric mean 2^(1/4).

    Two unit vectors always share equally: w = (1/2, 1/2), divided by the norms and multiplied by
    their geometric mean: 2^(1/4) / 2 * (1, 2^(-1/2)).
    """
    gramian = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    expected = 2**0.25 / 2 * torch.tensor([1.0, 2**-0.5], dtype=torch.float64)
    assert_close(MGDA(normalize=True)(gramian), expected)


def test_mgda_shortest_gradient_alone() -> None:
    """g1 = (1, 0), g2 = (3, 1): <g1, g2> = 3 > |g1|^2, so g1 is itself the shortest in the hull."""
    rows = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    assert_close(MGDA()(rows @ rows.T), torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_mgda_opposite_and_equal_gradients() -> None:
    """g2 = -3 g1: 3/4 g1 + 1/4 g2 = 0. Equal gradients: every weight will do, ours are equal."""
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    expected = torch.tensor([0.75, 0.25], dtype=torch.float64)
    assert_close(MGDA()(GRAMIANS["opposite_unequal"]), expected)
    assert_close(MGDA()(GRAMIANS["equal"]), third)


def test_mgda_very_different_norms() -> None:
    """Orthogonal g1, g2 of norms 1e-10 and 1e10: w2 = |g1|^2 / (|g1|^2 + |g2|^2), about 1e-40.

    Its part w2 g2 of norm 1e-30 is far below rounding beside g1, so any w2 of that size will do.
    """
    gramian = torch.diag(torch.tensor([1e-20, 1e20], dtype=torch.float64))
    weights = MGDA()(gramian)
    assert_close(weights[0].item(), 1.0)
    assert 0 <= weights[1].item() <= 1e-40


def test_mgda_leaves_out_zero_gradients() -> None:
    """Otherwise all weight would go to the dead objective, and the step would be zero."""
    alive = GRAMIANS["one_zero"][:2, :2]
    weights = MGDA()(GRAMIANS["one_zero"])
    assert weights[2] == 0
    assert_close(weights[:2], MGDA()(alive))
    assert update_norm(GRAMIANS["one_zero"], weights) > 0.1
    assert MGDA()(GRAMIANS["all_zero"]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", [name for name in GRAMIANS if name != "all_zero"])
def test_mgda_is_optimal(name: str) -> None:
    """u is the shortest vector in the hull iff ``<u, g_i> >= |u|^2`` for all i (1e-10 relative)."""
    rows = JACOBIANS[name][(JACOBIANS[name] != 0).any(1)]
    weights = MGDA()(rows @ rows.T)
    update = weights @ rows
    assert_close(weights.sum().item(), 1.0)
    slack = rows @ update - update @ update
    shortest = rows.norm(dim=1).min()
    assert (slack >= -1e-10 * shortest * rows.norm(dim=1)).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 4, 7])
def test_mgda_equals_torchjd(count: int, seed: int) -> None:
    """Their Frank-Wolfe with many iterations; its error shrinks like one over their number."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = jacobian(count, 10, seed)
    gramian = rows @ rows.T
    theirs = aggregation.MGDAWeighting(epsilon=1e-12, max_iters=3000)(gramian)
    ours = MGDA()(gramian)
    assert_close(ours @ rows, theirs @ rows, rtol=0, atol=5e-3 * norms(gramian).min().item())
    assert update_norm(gramian, ours) <= update_norm(gramian, theirs) * (1 + 1e-12)


def test_mgda_refuses_too_many_objectives() -> None:
    with pytest.raises(InputError, match=rf"at most {MGDA_LIMIT} .* Found 13.*PCGrad"):
        MGDA()(torch.eye(MGDA_LIMIT + 1, dtype=torch.float64))
    assert_close(MGDA()(torch.eye(12).double()), torch.full((12,), 1 / 12, dtype=torch.float64))
