from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import (
    DualAscent,
    DynamicWeightAverage,
    GradVac,
    LossWeighting,
    Rule,
    UncertaintyWeighting,
)
from lit_unlearn.gradients.weighting.loss_based import (
    dual_step,
    dynamic_weights,
    uncertainty_step,
)

NAMES = ["forget", "retain", "neighbor"]
NAN = math.nan


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _bound(weighting: LossWeighting, names: list[str] = NAMES) -> LossWeighting:
    weighting.bind(names)
    return weighting


def _makes() -> dict[str, LossWeighting]:
    return {
        "uncertainty": UncertaintyWeighting(learning_rate=0.1),
        "dynamic": DynamicWeightAverage(window=2),
        "dual": DualAscent({"retain": None}, reference_steps=2),
    }


# ----------------------------------------------------------------------------- what all of them do


@pytest.mark.parametrize("name", _makes())
def test_factors_begin_at_one(name: str) -> None:
    assert _bound(_makes()[name]).factors().tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", _makes())
def test_factors_stay_finite(name: str) -> None:
    """Through losses of 0, huge losses, and steps in which objectives have no rows."""
    weighting = _bound(_makes()[name])
    for losses in ([0.0, 0.0, 0.0], [1e10, 1e-10, 0.0], [NAN, 5.0, NAN], [NAN, NAN, NAN]) * 5:
        weighting.update(_vector(*losses))
        factors = weighting.factors()
        assert factors.dtype == torch.float64
        assert factors.isfinite().all()
        assert (factors >= 0).all()


@pytest.mark.parametrize("name", _makes())
def test_factors_follow_names_not_places(name: str) -> None:
    forward, backward = _bound(_makes()[name]), _bound(_makes()[name], NAMES[::-1])
    for step in range(1, 8):
        losses = _vector(1.0 / step, 2.0, 0.5 * step)
        forward.update(losses)
        backward.update(losses.flip(0))
    assert_close(forward.factors(), backward.factors().flip(0))


@pytest.mark.parametrize("name", _makes())
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_state_survives_a_checkpoint(tmp_path: Path, name: str, steps: int) -> None:
    """A resumed run gives the factors of one that was never stopped; the file has plain data."""
    first, second = _bound(_makes()[name]), _bound(_makes()[name])
    for step in range(steps):
        first.update(_vector(1.0, 2.0 + step, 0.5))
    torch.save(first.state_dict(), tmp_path / "state")
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for step in range(5):
        assert torch.equal(first.factors(), second.factors())
        first.update(_vector(1.0, 2.0 - 0.3 * step, 0.2))
        second.update(_vector(1.0, 2.0 - 0.3 * step, 0.2))


@pytest.mark.parametrize(
    "make",
    [
        UncertaintyWeighting,
        DynamicWeightAverage,
        GradVac,
        lambda: DualAscent({"retain": 1.0}),
    ],
)
def test_state_of_objectives_in_another_order_is_refused(make: Callable[[], Rule]) -> None:
    """Learnt values are told apart by their places."""
    first, second = make(), make()
    first.bind(NAMES)
    second.bind(NAMES[::-1])
    with pytest.raises(InputError, match=r"in their order: forget, retain.*Found neighbor, retain"):
        second.load_state_dict(first.state_dict())


LEARNT: dict[str, tuple[Rule, dict[str, Any]]] = {
    "uncertainty": (UncertaintyWeighting(), {"log_variances": _vector(0.1, 0.2, -0.3)}),
    "dynamic": (DynamicWeightAverage(), {"recent": [[1.0, 2.0, NAN]], "means": [[1.0, 1.0, 2.0]]}),
    "gradvac": (GradVac(), {"targets": torch.eye(3, dtype=torch.float64)}),
    "dual": (DualAscent({"retain": None}), {"duals": {"retain": 1.5}, "references": {}}),
}


@pytest.mark.parametrize("name", LEARNT)
def test_checkpoints_of_when_rules_were_modules(name: str) -> None:
    """They have one entry `_extra_state`; DualAscent had no names in it."""
    rule, learnt = LEARNT[name]
    rule.bind(NAMES)
    names = {} if name == "dual" else {"names": tuple(NAMES)}
    rule.load_state_dict({"_extra_state": {**names, **learnt}})
    for attribute, value in learnt.items():
        assert str(getattr(rule, attribute)) == str(value)


@pytest.mark.parametrize("name", ["uncertainty", "dynamic"])
def test_negative_losses_are_refused(name: str) -> None:
    weighting = _bound(_makes()[name])
    with pytest.raises(InputError, match="negative loss of objective 'retain'"):
        weighting.update(_vector(1.0, -0.1, NAN))


# ------------------------------------------------------------------------------------- uncertainty


def test_uncertainty_step_worked() -> None:
    """s = 0: s - 0.1 (1 - L) for L = 2 and 1/2; an objective without rows stays."""
    moved = uncertainty_step(torch.zeros(3).double(), _vector(2.0, 0.5, NAN), 0.1)
    assert_close(moved, _vector(0.1, -0.05, 0.0))


def test_uncertainty_settles_at_one_over_the_loss() -> None:
    """The minimum over s of exp(-s) L + s lies at exp(-s) = 1 / L; bounded by `largest`."""
    weighting = _bound(UncertaintyWeighting(learning_rate=0.1, largest=50))
    for _ in range(500):
        weighting.update(_vector(4.0, 0.25, 0.0))
    assert_close(weighting.factors(), _vector(0.25, 4.0, 50.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("options", "named"), [({"learning_rate": 0.0}, "learning_rate"), ({"largest": 1.0}, "largest")]
)
def test_uncertainty_parameters(options: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=rf"`UncertaintyWeighting.{named}` should be above"):
        UncertaintyWeighting(**options)


# ----------------------------------------------------------------------------------------- dynamic


def test_dynamic_weights_worked() -> None:
    """Ratios 1/2 and 1 with temperature 1/2: exp 1 and exp 2, times 2 / (their sum)."""
    weights = dynamic_weights(_vector(0.5, 2.0), _vector(1.0, 2.0), temperature=0.5)
    expected = _vector(math.exp(1), math.exp(2)) * 2 / (math.exp(1) + math.exp(2))
    assert_close(weights, expected)


def test_dynamic_windows() -> None:
    """Windows of two steps: means (2, 1, 1), then (1, 1, none); ratios 1/2, 1 and 1."""
    weighting = _bound(DynamicWeightAverage(temperature=2, window=2))
    for losses in ([1.0, 1.0, 1.0], [3.0, NAN, 1.0], [1.0, 1.0, NAN]):
        weighting.update(_vector(*losses))
        assert weighting.factors().tolist() == [1, 1, 1]
    weighting.update(_vector(1.0, 1.0, NAN))
    expected = dynamic_weights(_vector(1.0, 1.0, 1.0), _vector(2.0, 1.0, 1.0), 2.0)
    assert_close(weighting.factors(), expected)
    assert_close(weighting.factors().sum().item(), 3.0)


@pytest.mark.parametrize(
    ("options", "named"), [({"temperature": 0.0}, "temperature"), ({"window": 0}, "window")]
)
def test_dynamic_parameters(options: dict[str, int], named: str) -> None:
    with pytest.raises(InputError, match=rf"`DynamicWeightAverage.{named}` should be"):
        DynamicWeightAverage(**options)


# ------------------------------------------------------------------------------------- dual ascent


def _losses(retain: float, neighbor: float = NAN) -> Tensor:
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
    for loss in (1.0, NAN, 2.0):
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
    with pytest.raises(InputError, match=r"`DualAscent.limits` should have names of objectives"):
        DualAscent(limits).bind(NAMES)


@pytest.mark.parametrize(
    "options", [{"step_size": 0.0}, {"reference_steps": 0}, {"initial": -1.0}, {"initial": 101.0}]
)
def test_dual_parameters(options: dict[str, float]) -> None:
    with pytest.raises(
        InputError, match=r"`DualAscent\.(step_size|reference_steps|initial)` should be"
    ):
        DualAscent({"retain": 1.0}, **options)
