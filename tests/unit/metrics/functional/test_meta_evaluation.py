"""Measures of metrics: worked values, bounds, and the published aggregates."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.meta_evaluation import (
    faithfulness,
    quantisation_robustness,
    relearning_robustness,
)

SHARES = st.floats(0, 1)
PAIRS = st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=6)


def test_faithfulness_counts_pairs_in_the_right_order() -> None:
    """Of 2 x 2 pairs, three are in order and one is a tie: 3.5 / 4."""
    assert faithfulness([0.1, 0.3], [0.3, 0.9]) == pytest.approx(3.5 / 4)


def test_quantisation_by_hand() -> None:
    """1 - .1 / .9 and 1 - .2 / .2."""
    assert quantisation_robustness([0.4, 0.0], [0.5, 0.2]) == pytest.approx((8 / 9 + 0) / 2)


def test_relearning_by_hand() -> None:
    """Changes of .3 and .1, of the retain model .1: 1 - .2 / .4 and 1."""
    assert relearning_robustness([0.1, 0.2], [0.4, 0.3], 0.0, 0.1) == pytest.approx(0.75)


def test_a_model_that_relearns_while_the_retain_model_does_not_has_no_robustness() -> None:
    assert relearning_robustness([0.1], [0.5], 0.2, 0.2) == pytest.approx(0, abs=1e-9)


@given(PAIRS)
def test_both_are_shares_and_one_without_a_change(pairs: list[tuple[float, float]]) -> None:
    before, after = [list(side) for side in zip(*pairs, strict=True)]
    assert 0 <= quantisation_robustness(before, after) <= 1
    assert 0 <= relearning_robustness(before, after, 0.3, 0.4) <= 1
    assert quantisation_robustness(before, before) == 1
    assert relearning_robustness(before, before, 0.3, 0.3) == 1


def test_undefined_values_stay_undefined() -> None:
    assert math.isnan(quantisation_robustness([math.nan], [0.1]))


@pytest.mark.parametrize(("before", "after"), [([], []), ([0.1], [0.1, 0.2])])
def test_values_come_in_pairs(before: list[float], after: list[float]) -> None:
    with pytest.raises(InputError, match="`after`"):
        quantisation_robustness(before, after)
