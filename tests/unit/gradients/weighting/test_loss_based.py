from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import (
    DualAscent,
    DynamicWeightAverage,
    GradVac,
    LossWeighting,
    UncertaintyWeighting,
)
from lit_unlearn.gradients.weighting.base import Named
from lit_unlearn.gradients.weighting.loss_based import dynamic_weights, uncertainty_step

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
def test_state_survives_a_checkpoint(name: str, steps: int) -> None:
    """A resumed run goes on as one that was never stopped, also where modules were cast."""
    first, second = _bound(_makes()[name]), _bound(_makes()[name])
    for step in range(steps):
        first.update(_vector(1.0, 2.0 + step, 0.5))
    parent = nn.ModuleDict({"weighting": second}).to(torch.bfloat16)
    parent.load_state_dict(nn.ModuleDict({"weighting": first}).state_dict())
    for step in range(5):
        assert torch.equal(first.factors(), second.factors())
        first.update(_vector(1.0, 2.0 - 0.3 * step, 0.2))
        second.update(_vector(1.0, 2.0 - 0.3 * step, 0.2))


@pytest.mark.parametrize("make", [UncertaintyWeighting, DynamicWeightAverage, GradVac])
def test_state_of_objectives_in_another_order_is_refused(make: type[Named]) -> None:
    """What was learnt is told apart by place alone."""
    first, second = make(), make()
    first.bind(NAMES)
    second.bind(NAMES[::-1])
    with pytest.raises(InputError, match=r"in their order: forget, retain.*Found neighbor, retain"):
        second.load_state_dict(first.state_dict())


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
    with pytest.raises(InputError, match=f"`{named}` of UncertaintyWeighting should be above"):
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
    with pytest.raises(InputError, match=f"`{named}` of DynamicWeightAverage should be above"):
        DynamicWeightAverage(**options)
