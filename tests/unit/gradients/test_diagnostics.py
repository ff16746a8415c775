from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.gradients.diagnostics import (
    AT_REST_HALF,
    at_rest,
    conflict_rate,
    cosines,
    is_zero,
    norms,
    update_cosines,
    update_norm,
    without,
)
from tests.inputs import GRAMIANS, JACOBIANS

all_gramians = pytest.mark.parametrize("gramian", GRAMIANS.values(), ids=GRAMIANS)
NAN = math.nan


def rows_of(*rows: tuple[float, ...]) -> Tensor:
    gradients = torch.tensor(rows, dtype=torch.float64)
    return gradients @ gradients.T


def test_worked_values() -> None:
    """g1 = (3, 4), g2 = (-4, 3), g3 = (-3, -4), g4 = (0, 2): norms 5, 5, 5, 2.

    cos(1, 2) = 0, cos(1, 3) = -1, cos(1, 4) = 8/10, cos(2, 3) = 0, cos(2, 4) = 6/10,
    cos(3, 4) = -8/10. Two of six pairs are in conflict.
    The update g1 + g4 = (3, 6) has norm sqrt 45; with g1 it has 33 / (5 sqrt 45), with g2
    6 / (5 sqrt 45), with g3 -33 / (5 sqrt 45), with g4 12 / (2 sqrt 45).
    """
    gramian = rows_of((3, 4), (-4, 3), (-3, -4), (0, 2))
    assert norms(gramian).tolist() == [5, 5, 5, 2]
    expected = [[1, 0, -1, 0.8], [0, 1, 0, 0.6], [-1, 0, 1, -0.8], [0.8, 0.6, -0.8, 1]]
    assert_close(cosines(gramian), torch.tensor(expected, dtype=torch.float64))
    assert_close(conflict_rate(gramian), 2 / 6)
    weights = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert_close(update_norm(gramian, weights).item(), math.sqrt(45))
    found = update_cosines(gramian, weights) * math.sqrt(45)
    assert_close(found, torch.tensor([33 / 5, 6 / 5, -33 / 5, 6], dtype=torch.float64))


@all_gramians
def test_cosines_are_symmetric_bounded_and_one_on_the_diagonal(gramian: Tensor) -> None:
    cosine = cosines(gramian)
    zero = is_zero(gramian)
    assert torch.equal(cosine.isnan(), zero[:, None] | zero[None, :])
    alive = cosine[~zero][:, ~zero]
    assert (alive.abs() <= 1).all()
    assert torch.equal(alive, alive.T)
    assert (alive.diagonal() == 1).all()


@all_gramians
def test_cosines_do_not_depend_on_norms(gramian: Tensor) -> None:
    scales = torch.logspace(-10, 10, len(gramian), dtype=torch.float64)
    scaled = gramian * scales[:, None] * scales[None, :]
    assert_close(cosines(scaled), cosines(gramian), equal_nan=True)


def test_cosines_of_each_group_at_once() -> None:
    stacked = torch.stack([GRAMIANS["random_3"], GRAMIANS["one_zero"], GRAMIANS["all_zero"]])
    assert torch.equal(norms(stacked)[1], norms(stacked[1]))
    for found, gramian in zip(cosines(stacked), stacked, strict=True):
        assert_close(found, cosines(gramian), equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("random_1", 0.0),
        ("opposite", 1.0),
        ("equal", 0.0),
        ("orthogonal", 0.0),
        ("all_zero", 0.0),
        ("only_one_alive", 0.0),
        ("mixed_norms_opposite", 2 / 3),
    ],
)
def test_conflict_rate(name: str, rate: float) -> None:
    assert_close(conflict_rate(GRAMIANS[name]), rate)


def test_conflict_rate_leaves_zero_gradients_out() -> None:
    """One conflict in the one pair without a zero gradient, not in three pairs."""
    assert conflict_rate(rows_of((1, 0), (-1, 1), (0, 0))) == 1.0


@pytest.mark.parametrize("name", GRAMIANS)
def test_update_statistics_equal_those_of_the_update_itself(name: str) -> None:
    rows = JACOBIANS[name]
    weights = torch.linspace(0.5, 2.0, len(rows), dtype=torch.float64)
    update = weights @ rows
    gramian = rows @ rows.T
    assert_close(update_norm(gramian, weights), update.norm())
    alive = rows.norm(dim=1) > 0
    found = update_cosines(gramian, weights)
    assert found[~alive].isnan().all()
    expected = rows[alive] @ update / rows[alive].norm(dim=1) / update.norm()
    assert_close(found[alive], expected)


def test_update_cosines_of_an_update_that_cancels() -> None:
    """g1 - g1 is rounding at best: no direction."""
    gramian = GRAMIANS["opposite_unequal"]
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    assert update_cosines(gramian, weights).isnan().all()
    assert update_norm(gramian, weights) <= 1e-7 * norms(gramian)[0]
    assert update_cosines(gramian, torch.zeros(2)).isnan().all()


def test_non_finite_gradients_give_nan() -> None:
    gramian = GRAMIANS["random_3"].clone()
    gramian[1, :] = gramian[:, 1] = NAN
    assert torch.equal(norms(gramian).isnan(), torch.tensor([False, True, False]))
    assert cosines(gramian)[1].isnan().all()
    assert not cosines(gramian)[0, 2].isnan()
    assert update_norm(gramian, torch.ones(3)).isnan()
    assert update_cosines(gramian, torch.ones(3)).isnan().all()
    infinite = torch.diag(torch.tensor([1.0, math.inf], dtype=torch.float64))
    assert cosines(infinite)[1, 1].isnan()


@pytest.mark.parametrize(
    ("norm", "share", "rests"),
    [
        (0.9e-5, 1e-5, True),
        (1.1e-5, 1e-5, False),
        (0.04, AT_REST_HALF, True),
        (0.06, AT_REST_HALF, False),
        (0.9e-6, 0.0, True),  # by itself too short, whatever the share
    ],
)
def test_a_gradient_at_rest_has_no_cosine(norm: float, share: float, rests: bool) -> None:
    """Beside one of norm 1, with which it has the cosine 0.6; the third pair is untouched."""
    gramian = rows_of((1, 0, 0), (0.6 * norm, 0.8 * norm, 0), (0, 0, 1))
    found = at_rest(gramian, share)
    assert found.tolist() == [False, rests, False]
    cosine = cosines(without(torch.stack([gramian, 4 * gramian]), found))
    assert cosine[:, 0, 1].isnan().all() if rests else (cosine[:, 0, 1] - 0.6).abs().max() < 1e-9
    assert (cosine[:, 0, 2] == 0).all()


def test_what_is_not_finite_is_not_at_rest() -> None:
    gramian = torch.diag(torch.tensor([1.0, math.inf, NAN, 1e-12], dtype=torch.float64))
    assert at_rest(gramian).tolist() == [False, False, False, True]
    assert at_rest(torch.zeros(2, 2)).all()
