"""The balanced score: its scales, its parts, and its mean."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lit_unlearn.metrics.functional.balance import (
    PARTS,
    Measured,
    balance,
    forgotten,
    kept,
    least,
)


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


START = Measured(0.8, 0.8, 0.6, 0.9, 0.0, 0.8, 1.0)


def test_the_score_is_the_harmonic_mean() -> None:
    """Parts .75 (of what is said), .75, .75 * .5, .5 and 1: 5 / (4/3 + 4/3 + 8/3 + 2 + 1)."""
    model = Measured(0.2, 0.0, 0.45, 0.45, 0.25, 0.4, 1.0)
    found = balance(START, model)
    assert [found[part] for part in PARTS] == pytest.approx([0.75, 0.75, 0.375, 0.5, 1.0])
    assert found["score"] == pytest.approx(0.6)
    assert balance(START, replace(model, readable=0.0))["score"] == 0
    assert math.isnan(balance(START, replace(model, utility=math.nan))["score"])


def test_the_start_model_and_one_that_never_knew_are_the_ends() -> None:
    never = replace(START, recall=0.3, known=0.1, attacked=0.4)
    for model, ends in ((START, 0.0), (never, 1.0)):
        found = balance(START, model, never)
        assert [found[part] for part in ("forgetting", "robustness", "score")] == [ends] * 3
