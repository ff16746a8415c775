"""The course of the learning rate."""

from __future__ import annotations

import pytest

from lit_unlearn.training.learning_rate import factor


def test_worked_values() -> None:
    """Ten steps, two of them warm-up: 1/2, 1, then down by 1/8 a step; half-way is step 6."""
    linear = [factor(step, 10, 2, "linear") for step in range(10)]
    assert linear == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert factor(6, 10, 2, "cosine") == pytest.approx(0.5)
    assert [factor(step, 10, 0, "constant") for step in (0, 9)] == [1, 1]


def test_never_below_zero() -> None:
    assert factor(50, 10, 2, "linear") == 0
    assert factor(50, 10, 2, "cosine") == pytest.approx(0)
