"""Intervals, AUC and tests: worked values, independent computations, order, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.statistics import (
    auc,
    bootstrap_auc,
    bootstrap_harmonic_mean,
    bootstrap_mean,
    clopper_pearson,
    clopper_pearson_upper,
    harmonic_mean,
    mcnemar_exact,
    mean,
    sign_flip_test,
    two_sample_ks,
)

SCORES = [float(x) for x in np.random.default_rng(5).normal(0.4, 0.2, 200)]


def test_means_by_hand() -> None:
    """(1 + 2 + 6) / 3 = 3; 3 / (1/1 + 1/2 + 1/6) = 1.8."""
    assert mean([1, 2, 6]) == 3
    assert harmonic_mean([1, 2, 6]) == pytest.approx(1.8)
    assert math.isnan(mean([]))
    assert harmonic_mean([0.5, 0.0, 0.0]) == 0
    assert math.isnan(harmonic_mean([0.5, math.nan]))


def test_a_mean_is_exactly_rounded() -> None:
    """1e16 + 1 - 1e16 = 1, which a running sum loses."""
    assert mean([1e16, 1.0, -1e16]) == pytest.approx(1 / 3)


# ------------------------------------------------------------------------------------- intervals


def test_bootstrap_equals_scipys() -> None:
    """Another implementation, another random stream: equal up to the noise of 4000 resamples."""
    own = bootstrap_mean(SCORES, resamples=4000)
    other = stats.bootstrap((SCORES,), np.mean, n_resamples=4000, method="percentile")
    assert own.low == pytest.approx(other.confidence_interval.low, abs=3e-3)
    assert own.high == pytest.approx(other.confidence_interval.high, abs=3e-3)


def test_bootstrap_covers_the_mean_and_narrows_with_rows() -> None:
    wide, narrow = bootstrap_mean(SCORES[:50]), bootstrap_mean(SCORES)
    assert wide.low < mean(SCORES[:50]) < wide.high
    assert narrow.high - narrow.low < wide.high - wide.low
    assert bootstrap_mean([0.3] * 5) == pytest.approx((0.3, 0.3))


def test_bootstrap_in_portions_is_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_mean(SCORES), bootstrap_auc(SCORES[:90], SCORES[90:])
    monkeypatch.setattr("lit_unlearn.metrics.functional.resampling._CELLS_AT_ONCE", 10_000)
    parts = bootstrap_mean(SCORES), bootstrap_auc(SCORES[:90], SCORES[90:])
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, abs=5e-3)


def test_row_order_changes_no_interval_and_the_seed_does() -> None:
    turned = SCORES[::-1]
    assert bootstrap_mean(turned) == bootstrap_mean(SCORES)
    lower, higher = SCORES[:100], SCORES[100:]
    assert bootstrap_auc(lower[::-1], higher[::-1]) == bootstrap_auc(lower, higher)
    rows = [list(row) for row in pairwise(SCORES)]
    assert bootstrap_harmonic_mean([rows[::-1]]) == bootstrap_harmonic_mean([rows])


def test_harmonic_interval_of_one_score_is_that_of_the_mean() -> None:
    one = bootstrap_harmonic_mean([[[score] for score in SCORES]])
    assert one == pytest.approx(bootstrap_mean(SCORES))


def test_harmonic_interval_draws_the_scores_of_a_row_together() -> None:
    """Scores s and 1 - s of a row: drawn together their means add up to 1, so that with means
    near 1/2 the harmonic mean 2 m (1 - m) hardly moves; drawn apart it would move like m.
    """
    rows = [[s, 1 - s] for s in (0.1, 0.9, 0.2, 0.8, 0.3, 0.7) * 10]
    low, high = bootstrap_harmonic_mean([rows])
    apart = bootstrap_harmonic_mean([[[a] for a, _ in rows], [[b] for _, b in rows]])
    assert high <= 0.5 + 1e-12
    assert high - low < 0.3 * (apart.high - apart.low)


def test_harmonic_interval_draws_within_groups() -> None:
    """Groups of one value each stay what they are: 2 / (1/0.2 + 1/0.8) = 0.32."""
    assert bootstrap_harmonic_mean([[[0.2]] * 9, [[0.8]] * 3]) == pytest.approx((0.32, 0.32))


def test_clopper_pearson_by_hand() -> None:
    """0 of n: high = 1 - 0.025 ** (1 / n); n of n: low = 0.025 ** (1 / n)."""
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1))
    assert clopper_pearson_upper(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))


def test_clopper_pearson_from_the_binomial_tails() -> None:
    """At its ends the tails of 7 of 20 have 2.5 % each, summed term by term."""
    low, high = clopper_pearson(7, 20)
    terms = [math.comb(20, k) for k in range(21)]

    def tail(p: float, counts: range) -> float:
        return sum(terms[k] * p**k * (1 - p) ** (20 - k) for k in counts)

    assert tail(low, range(7, 21)) == pytest.approx(0.025)
    assert tail(high, range(8)) == pytest.approx(0.025)


# ------------------------------------------------------------------------------------ AUC and KS


def test_auc_by_hand() -> None:
    """Of 2 x 3 pairs, 1 < 2, 1 < 3 and 2 < 3 count 1, twice a tie 1/2: 4 / 6."""
    assert auc([1, 2], [1, 2, 3]) == pytest.approx(4 / 6)
    assert auc([1, 2], [3, 4]) == 1
    assert auc([3, 4], [1, 2]) == 0
    assert auc([5], [5]) == 0.5


def test_auc_counts_pairs() -> None:
    lower, higher = SCORES[:40], [round(x, 1) for x in SCORES[40:100]]
    pairs = [(b > a) + 0.5 * (b == a) for a, b in product(lower, higher)]
    assert auc(lower, higher) == pytest.approx(sum(pairs) / len(pairs))
    assert auc(higher, lower) == pytest.approx(1 - auc(lower, higher))


def test_auc_interval_equals_a_plain_bootstrap() -> None:
    lower, higher = [round(x, 1) for x in SCORES[:60]], [round(x + 0.1, 1) for x in SCORES[60:]]
    rng = np.random.default_rng(9)
    drawn = [
        auc(rng.choice(lower, 60).tolist(), rng.choice(higher, 140).tolist()) for _ in range(300)
    ]
    own = bootstrap_auc(lower, higher)
    assert own.low < auc(lower, higher) < own.high
    assert own == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)
    assert bootstrap_auc([1, 2], [3, 4]) == (1, 1)


def test_kolmogorov_smirnov_by_hand() -> None:
    """{1, 2} and {3, 4}: the gap is 1; of the 6 ways to deal out four values 2 give it."""
    assert two_sample_ks([1, 2], [3, 4]) == pytest.approx((1, 2 / 6))
    assert two_sample_ks(SCORES, SCORES) == (0, 1)


# ------------------------------------------------------------------------------------ paired tests


def test_sign_flips_by_hand() -> None:
    """Differences 1, 2, 3: of 8 sign patterns only +++ and --- reach 6: p = 2 / 8."""
    assert sign_flip_test([1, 2, 3], [0, 0, 0]) == 2 / 8
    assert sign_flip_test([0, 0, 0, 5], [1, 2, 3, 5]) == 2 / 8
    assert sign_flip_test([1, 2], [1, 2]) == 1


def test_sign_flips_at_random_come_near_the_exact_ones() -> None:
    """20 differences of 1, 15 of them positive: |sum| >= 10 has the binomial's p."""
    first, second = [1.0] * 15 + [0.0] * 5, [0.0] * 15 + [1.0] * 5
    exact = 2 * sum(math.comb(20, k) for k in range(6)) / 2**20
    assert sign_flip_test(first, second) == pytest.approx(exact, abs=0.006)
    order = [3, 17, *range(3), *range(4, 17), 18, 19]
    turned = [first[i] for i in order], [second[i] for i in order]
    assert sign_flip_test(*turned) == sign_flip_test(first, second)


def test_mcnemar_by_hand() -> None:
    """5 rows favour the first, 1 the second: 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64."""
    first = [True] * 5 + [False] + [True] * 9
    second = [False] * 5 + [True] + [True] * 9
    assert mcnemar_exact(first, second) == pytest.approx(14 / 64)
    assert mcnemar_exact(second, first) == pytest.approx(14 / 64)
    assert mcnemar_exact(first, first) == 1


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean([]), "`values` should hold at least one row"),
        (lambda: bootstrap_harmonic_mean([]), "`groups` should hold"),
        (lambda: bootstrap_harmonic_mean([[]]), "`groups` should hold"),
        (lambda: harmonic_mean([]), "`values` should hold"),
        (lambda: harmonic_mean([0.5, -0.1]), "at least 0. Found -0.1"),
        (lambda: auc([], [1]), "`lower`"),
        (lambda: bootstrap_auc([1], []), "`higher`"),
        (lambda: two_sample_ks([], [1]), "`first`"),
        (lambda: clopper_pearson(3, 2), "Found 3 of 2"),
        (lambda: clopper_pearson(0, 0), "Found 0 of 0"),
        (lambda: sign_flip_test([1], [1, 2]), "same rows. Found 1 and 2"),
        (lambda: sign_flip_test([1, math.nan], [0, 1]), "Found 1 differences that are not"),
        (lambda: mcnemar_exact([], []), "Found 0 and 0"),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
