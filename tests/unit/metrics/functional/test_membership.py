"""Membership statistics: worked values; known texts come out lower."""

from __future__ import annotations

import math
import zlib

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.membership import (
    loss,
    min_k,
    min_k_plus_plus,
    priv_leak,
    reference_difference,
    zlib_ratio,
)

LOG_PROBS = [-1.0, -5.0, -3.0, -2.0, -4.0]


def test_statistics_by_hand() -> None:
    """Mean 15 / 5; the two least likely of five (40 %) are -5 and -4."""
    assert loss(LOG_PROBS) == 3
    assert min_k(LOG_PROBS, 0.4) == 4.5
    assert min_k(LOG_PROBS, 1.0) == loss(LOG_PROBS)
    assert min_k(LOG_PROBS, 0.01) == 5
    assert zlib_ratio(LOG_PROBS, "text") == 3 / len(zlib.compress(b"text"))
    assert reference_difference(3.0, 2.5) == 0.5
    assert math.isnan(loss([]))


def test_min_k_plus_plus_by_hand() -> None:
    """(-1 + 3) / 2 = 1 and (-5 + 3) / 0.5 = -4: half of the two tokens gives 4, both give 1.5."""
    given = ([-1.0, -5.0], [-3.0, -3.0], [2.0, 0.5])
    assert min_k_plus_plus(*given, 0.5) == 4
    assert min_k_plus_plus(*given, 1.0) == 1.5
    assert math.isfinite(min_k_plus_plus([-1.0], [-1.5], [0.0]))


def test_standardised_by_nothing_min_k_plus_plus_is_min_k() -> None:
    flat = ([0.0] * 5, [1.0] * 5)
    assert min_k_plus_plus(LOG_PROBS, *flat, 0.4) == min_k(LOG_PROBS, 0.4)


def test_what_is_known_better_comes_out_lower() -> None:
    known = [value / 2 for value in LOG_PROBS]
    assert loss(known) < loss(LOG_PROBS)
    assert min_k(known) < min_k(LOG_PROBS)
    assert zlib_ratio(known, "text") < zlib_ratio(LOG_PROBS, "text")


@pytest.mark.parametrize(
    ("auc", "retain_auc", "percent"),
    [(1.0, 0.5, -100), (0.5, 0.5, 0), (0.25, 0.5, 50), (0.9, 0.6, -75)],
)
def test_priv_leak_by_hand(auc: float, retain_auc: float, percent: float) -> None:
    """0.9 and 0.6: 100 (0.1 - 0.4) / 0.4 = -75."""
    assert priv_leak(auc, retain_auc) == pytest.approx(percent)


def test_priv_leak_in_muses_own_direction() -> None:
    """MUSE's AUC is 1 - auc: its published retrain value for News is 0.4772."""
    muse, retrain = 0.003, 0.4772
    assert priv_leak(1 - muse, 1 - retrain) == pytest.approx(100 * (muse - retrain) / retrain)
    assert math.isnan(priv_leak(0.5, 1.0))


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"`share` should be above 0.*Found 0"):
        min_k(LOG_PROBS, 0)
    with pytest.raises(InputError, match=r"one number per token. Found 5, 1 and 5"):
        min_k_plus_plus(LOG_PROBS, [0.0], [1.0] * 5)
