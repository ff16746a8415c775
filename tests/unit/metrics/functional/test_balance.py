"""The balanced score: its scales, its parts, and its mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lit_unlearn.metrics.functional.balance import PARTS, balance, forgotten, kept, least


def array(*values: float) -> np.ndarray:
    return np.array(values)


def test_what_is_forgotten_lies_between_start_and_never() -> None:
    """Recall .8 before, .2 where it was never known: .5 is half forgotten, .2 and less all."""
    found = forgotten(array(0.8, 0.5, 0.2, 0.1, 0.9), array(0.8), array(0.2))
    np.testing.assert_allclose(found, [0, 0.5, 1, 1, 0])
    np.testing.assert_allclose(forgotten(array(0.2), array(0.8)), [0.75])


@pytest.mark.parametrize(("start", "never"), [(0.0, 0.0), (0.3, 0.3), (0.2, 0.4), (math.nan, 0.0)])
def test_nothing_can_be_forgotten_that_the_start_model_does_not_know(
    start: float, never: float
) -> None:
    assert np.isnan(forgotten(array(0.1), array(start), array(never))).all()


def test_what_is_kept() -> None:
    found = kept(array(0.45, 0.9, 0.0, 0.1), array(0.6, 0.6, 0.6, 0.0))
    np.testing.assert_allclose(found, [0.75, 1, 0, np.nan])


def test_the_least_of_those_that_are_defined() -> None:
    nan = math.nan
    found = least([array(0.5, nan, nan), array(0.7, 0.2, nan)])
    np.testing.assert_allclose(found, [0.5, 0.2, np.nan])


def test_the_score_is_the_harmonic_mean() -> None:
    """5 / (1/.75 + 1/.75 + 1/.375 + 1/.5 + 1) = 5 / (25/3) = 3/5; 0 with a 0; NaN with a NaN."""
    parts = np.array([[0.75, 0.0, math.nan], *[[v] * 3 for v in (0.75, 0.375, 0.5, 1.0)]])
    assert len(parts) == len(PARTS)
    np.testing.assert_allclose(balance(parts), [0.6, 0, np.nan])
