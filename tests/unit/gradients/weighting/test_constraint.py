from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import DualAscent
from lit_unlearn.gradients.weighting.constraint import dual_step

NAMES = ["forget", "retain", "neighbor"]


def _losses(retain: float, neighbor: float = math.nan) -> Tensor:
    return torch.tensor([7.0, retain, neighbor], dtype=torch.float64)


def test_dual_step_worked() -> None:
    assert dual_step(1.0, loss=0.5, limit=0.25, step_size=2.0) == 1.5
    assert dual_step(0.25, loss=0.0, limit=0.25, step_size=2.0) == 0.0


def test_factor_rises_above_the_limit_and_falls_below_it() -> None:
    """Limit 1, step 0.5: losses 2, 1, 0.5 and -9 make 1 -> 1.5 -> 1.5 -> 1.25 -> 0."""
    weighting = DualAscent({"retain": 1.0}, step_size=0.5)
    weighting.bind(NAMES)
    found = []
    for loss in (2.0, 1.0, 0.5, -9.0):
        weighting.update(_losses(loss))
        found.append(weighting.factors().tolist())
    assert found == [[1, 1.5, 1], [1, 1.5, 1], [1, 1.25, 1], [1, 0, 1]]


def test_limit_taken_from_the_start() -> None:
    """The mean of the first two losses, 1 and 2, plus 0.1: limit 1.6."""
    weighting = DualAscent({"retain": None}, slack=0.1, reference_steps=2)
    weighting.bind(NAMES)
    for loss in (1.0, math.nan, 2.0):
        weighting.update(_losses(loss))
        assert weighting.factors().tolist() == [1, 1, 1]
    weighting.update(_losses(2.0))
    assert_close(weighting.factors()[1].item(), 1.4)


def test_a_dual_variable_for_each_constraint() -> None:
    weighting = DualAscent({"retain": 1.0, "neighbor": 2.0}, initial=0.5, largest=3.0)
    weighting.bind(NAMES)
    weighting.update(_losses(1.25, 9.0))
    assert weighting.factors().tolist() == [1, 0.75, 3]


def test_finds_the_weight_that_holds_the_limit() -> None:
    """Minimise (x - 2)^2 subject to x^2 <= 1 by descent on x and ascent on the dual variable.

    The solution is x = 1, where 2 (x - 2) + dual 2 x = 0: the dual variable is 1.
    """
    weighting = DualAscent({"kept": 1.0}, step_size=0.02, initial=0.0)
    weighting.bind(["forget", "kept"])
    x = torch.tensor(2.0, dtype=torch.float64)
    for _ in range(3000):
        factors = weighting.factors()
        slope = factors[0] * 2 * (x - 2) + factors[1] * 2 * x
        weighting.update(torch.stack([(x - 2) ** 2, x**2]))
        x = x - 0.02 * slope
    assert_close(x.item(), 1.0, rtol=1e-3, atol=0)
    assert_close(weighting.factors()[1].item(), 1.0, rtol=1e-3, atol=0)


@pytest.mark.parametrize("limits", [{}, {"retian": 1.0}], ids=["none", "unknown"])
def test_limits_name_objectives(limits: dict[str, float | None]) -> None:
    with pytest.raises(InputError, match="`limits` of DualAscent should have names of objectives"):
        DualAscent(limits).bind(NAMES)


@pytest.mark.parametrize(
    "options", [{"step_size": 0.0}, {"reference_steps": 0}, {"initial": -1.0}, {"initial": 101.0}]
)
def test_parameters(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="Parameters of DualAscent should satisfy"):
        DualAscent({"retain": 1.0}, **options)
