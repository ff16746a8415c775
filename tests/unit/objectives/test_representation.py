"""Losses on hidden states: worked values, loops, the direction's seed, and what is read."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn import objectives as o
from lit_unlearn.errors import InputError
from lit_unlearn.objectives import representation as rep
from lit_unlearn.types import Tokens
from tests.unit.objectives.given import SAME, SINGLE, batch_of, given


def test_worked_values() -> None:
    """h = (3, 4), u = (1, 0), c = 1: ((3 - 1)^2 + 4^2) / 2 = 10.

    cos((3, 4), (4, 3)) = 24/25; relu(cos((3, 4), (-3, -4))) = 0. |(3, 4) - 0| = 5, squared mean
    25 / 2.
    """
    h = torch.tensor([[3.0, 4.0]])
    assert rep.misdirection(h, torch.tensor([1.0, 0.0]), 1.0).tolist() == [10]
    assert rep.rerouting(h[None], torch.tensor([[[4.0, 3.0]]])).item() == pytest.approx(24 / 25)
    assert rep.rerouting(h[None], -h[None]).item() == 0
    zero = torch.zeros_like(h)[None]
    assert rep.matching(h[None], zero, "norm").tolist() == [5]
    assert rep.matching(h[None], zero).tolist() == [12.5]


def test_depths_are_averaged() -> None:
    """Distances 5 and 0 at two depths: 2.5."""
    hidden = torch.tensor([[[3.0, 4.0]], [[1.0, 1.0]]])
    reference = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    assert rep.matching(hidden, reference, "norm").tolist() == [2.5]


def test_control_vector_is_the_seeds_and_of_length_one() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (rep.control_vector(16, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.norm().item() == pytest.approx(1.0)
    assert (first >= 0).all()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_objectives_against_loops() -> None:
    """RMU and adaptive RMU position by position, in plain arithmetic."""
    batch = batch_of(SAME)
    student, teacher = given(batch), given(batch, seed=1)
    u = rep.control_vector(6, 5).tolist()
    plain = o.RMU(depth=0.5, coefficient=2.0, seed=5)(batch, student, None)
    adaptive = o.AdaptiveRMU(depth=1.0, scale=3.0, seed=5)(batch, student, teacher).values
    places = zip(batch.student.rows.tolist(), batch.student.columns.tolist(), strict=True)
    for i, (row, column) in enumerate(places):
        low, high, reference = (
            states[row, column].tolist()
            for states in (student.all_hidden[0], student.all_hidden[1], teacher.all_hidden[1])
        )
        value = sum((h - 2.0 * v) ** 2 for h, v in zip(low, u, strict=True)) / 6
        assert float(plain.values[i]) == pytest.approx(value, rel=1e-5)
        norm = math.sqrt(sum(h * h for h in low))
        assert float(plain.statistics["norm"][i]) == pytest.approx(norm, rel=1e-5)
        length = 3.0 * math.sqrt(sum(h * h for h in reference))
        value = sum((h - length * v) ** 2 for h, v in zip(high, u, strict=True)) / 6
        assert float(adaptive[i]) == pytest.approx(value, rel=1e-5)


def test_rerouting_gradient_turns_away_and_stops_at_a_right_angle() -> None:
    reference = torch.tensor([[[1.0, 0.0]]])
    for angle, moves in ((0.5, True), (2.0, False)):
        hidden = torch.tensor([[[math.cos(angle), math.sin(angle)]]], requires_grad=True)
        (gradient,) = torch.autograd.grad(rep.rerouting(hidden, reference).sum(), hidden)
        assert bool(gradient.abs().sum() > 0) is moves


def test_no_logits_are_asked_of_a_cache() -> None:
    assert o.HiddenRetain().teacher_inputs(batch_of(SINGLE)) == []


def test_a_teacher_without_hidden_states_is_refused() -> None:
    class LogitsOnly:
        def logits(self, tokens: Tokens) -> torch.Tensor:
            return torch.zeros(len(tokens.rows), 50)

    batch = batch_of(SAME)
    with pytest.raises(InputError, match=r"HiddenRetain needs hidden states\. Found a LogitsOnly"):
        o.HiddenRetain()(batch, given(batch), LogitsOnly())
