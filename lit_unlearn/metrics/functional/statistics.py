"""Means, confidence intervals and significance tests of sequences of numbers.

Random draws depend on the sorted values only, so that the order of rows does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.resampling import (
    Array,
    portions,
    resampled_counts,
    resampled_means,
)

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Interval",
    "KolmogorovSmirnov",
    "auc",
    "bootstrap_auc",
    "bootstrap_harmonic_mean",
    "bootstrap_mean",
    "clopper_pearson",
    "clopper_pearson_upper",
    "harmonic_mean",
    "harmonic_means",
    "mcnemar_exact",
    "mean",
    "sign_flip_test",
    "two_sample_ks",
]

LEVEL = 0.95
"""Confidence of an interval."""
RESAMPLES = 2000
_EXACT_UP_TO = 12  # pairs that differ: 2 ** 12 sign patterns
_SIGN_PATTERNS = 10_000


class Interval(NamedTuple):
    """Ends of a confidence interval."""

    low: float
    high: float


class KolmogorovSmirnov(NamedTuple):
    """Outcome of a two-sample Kolmogorov-Smirnov test."""

    distance: float
    """Largest difference of the two distribution functions, 0 to 1."""
    p_value: float


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean, exactly rounded; NaN without values."""
    return math.fsum(values) / len(values) if values else math.nan


def harmonic_mean(values: Sequence[float]) -> float:
    """Return the harmonic mean of numbers of at least 0; 0 if one is 0, NaN if one is NaN.

    Raises:
        InputError: There is no value, or one is below 0.
    """
    _check_some("values", values)
    if any(value < 0 for value in values):
        raise InputError(
            f"Parameter `values` should hold numbers of at least 0. Found {min(values)}; a "
            "harmonic mean is defined for shares and rates."
        )
    if any(math.isnan(value) for value in values):
        return math.nan
    return float(harmonic_means(np.asarray(values, dtype=np.float64)))


def harmonic_means(values: Array) -> Array:
    """Return the harmonic means over the first axis, ``[...]`` of ``[S, ...]``; 0 if one is 0."""
    with np.errstate(divide="ignore"):  # scipy's function differs in the last digits
        return np.asarray(len(values) / np.sum(1 / values, axis=0), dtype=np.float64)


# ------------------------------------------------------------------------------------- intervals


def bootstrap_mean(
    values: Sequence[float], *, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Return the percentile bootstrap interval of a mean.

    Efron and Tibshirani 1993, section 13.3. If all rows are equal, the interval is a point; for
    shares of yes and no see `clopper_pearson`.

    Args:
        values: One score per row, at least one row.
        resamples: Number of resamples.
        level: Share of resampled means inside the interval.

    Raises:
        InputError: There is no value.
    """
    _check_some("values", values)
    table = np.asarray([sorted(values)], dtype=np.float64)
    means = resampled_means(table, np.random.default_rng(0), resamples)[0]
    return _percentiles(means, level)


def bootstrap_harmonic_mean(groups: Sequence[Sequence[Sequence[float]]]) -> Interval:
    """Return the percentile bootstrap interval of the harmonic mean of groups' mean scores.

    Rows are drawn within each group. All scores of a row are drawn together, since they come from
    one question (TOFU's model utility: three groups of three scores).

    Args:
        groups: Rows of each group, scores of each row; all rows of a group have equally many.

    Raises:
        InputError: There is no group, or a group without rows.
    """
    _check_some("groups", groups)
    rng = np.random.default_rng(0)
    means: list[Array] = []
    for rows in groups:
        _check_some("groups", rows)
        scores = np.asarray(sorted(map(tuple, rows)), dtype=np.float64).T
        means.append(resampled_means(scores, rng, RESAMPLES))
    return _percentiles(harmonic_means(np.concatenate(means)), LEVEL)


def clopper_pearson(successes: int, count: int, *, level: float = LEVEL) -> Interval:
    """Return the exact interval of a share (Clopper and Pearson 1934).

    At n of n it reaches from ``(a / 2) ** (1 / n)`` to 1, with a = 1 - level, and is no point.

    Raises:
        InputError: ``count`` is below 1, or ``successes`` lies outside 0 to ``count``.
    """
    if not 0 <= successes <= count or count < 1:
        raise InputError(
            "Parameters `successes` and `count` should be 0 to `count`, and at least 1. Found "
            f"{successes} of {count}."
        )
    found = stats.binomtest(successes, count).proportion_ci(level, method="exact")
    return Interval(float(found.low), float(found.high))


def clopper_pearson_upper(successes: int, count: int, *, level: float = LEVEL) -> float:
    """Return the one-sided upper bound of a share at confidence ``level``.

    With 0 of n it is ``1 - (1 - level) ** (1 / n)``. Errors are those of `clopper_pearson`.
    """
    return clopper_pearson(successes, count, level=2 * level - 1).high


# ------------------------------------------------------------------------------- AUC and KS


def auc(lower: Sequence[float], higher: Sequence[float]) -> float:
    """Return the probability that a value of ``higher`` exceeds one of ``lower``; ties count half.

    It is the area under the ROC curve, and the Mann-Whitney statistic / (n * m).

    Raises:
        InputError: One side has no value.
    """
    _check_some("lower", lower)
    _check_some("higher", higher)
    ranks = stats.rankdata([*higher, *lower])[: len(higher)]
    smallest = len(higher) * (len(higher) + 1) / 2
    return (math.fsum(ranks) - smallest) / (len(lower) * len(higher))


def bootstrap_auc(lower: Sequence[float], higher: Sequence[float]) -> Interval:
    """Return the percentile bootstrap interval of `auc`; each side is drawn by itself.

    Raises:
        InputError: One side has no value.
    """
    _check_some("lower", lower)
    _check_some("higher", higher)
    rng = np.random.default_rng(0)
    distinct, codes = np.unique(
        np.asarray([*sorted(lower), *sorted(higher)], dtype=np.float64), return_inverse=True
    )
    sides = codes[: len(lower)], codes[len(lower) :]
    found: list[Array] = []
    for count in portions(RESAMPLES, len(codes) + 2 * len(distinct)):
        below, above = (resampled_counts(side, len(distinct), rng, count) for side in sides)
        beaten = np.cumsum(below, axis=1) - below / 2
        found.append((above * beaten).sum(axis=1) / (len(lower) * len(higher)))
    return _percentiles(np.concatenate(found), LEVEL)


def two_sample_ks(first: Sequence[float], second: Sequence[float]) -> KolmogorovSmirnov:
    """Test by Kolmogorov and Smirnov whether two samples have one distribution, two-sided.

    Raises:
        InputError: A sample has no value.
    """
    _check_some("first", first)
    _check_some("second", second)
    result = stats.ks_2samp(first, second)
    return KolmogorovSmirnov(float(result.statistic), float(result.pvalue))


# ------------------------------------------------------------------------------- paired tests


def sign_flip_test(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of a mean difference, by a paired permutation test.

    Under the null hypothesis every row's difference is as likely with the other sign. With up to 12
    rows that differ, all sign patterns are tried and p is exact. With more, p is (1 + those at
    least as extreme) / (1 + 10,000) over random patterns (Phipson and Smyth 2010).

    Args:
        first: One score per row.
        second: Scores of the same rows by the other model.

    Raises:
        InputError: The two differ in length, are empty, or have a difference that is not finite.
    """
    _check_paired(first, second)
    differences = np.sort([a - b for a, b in zip(first, second, strict=True) if a != b])
    if not np.isfinite(differences).all():
        raise InputError(
            "Parameters `first` and `second` should hold finite scores. Found "
            f"{np.sum(~np.isfinite(differences))} differences that are not; leave those rows out."
        )
    if not len(differences):
        return 1.0
    observed = abs(math.fsum(differences)) * (1 - 1e-12)
    if len(differences) <= _EXACT_UP_TO:
        patterns = np.indices((2,) * len(differences)).reshape(len(differences), -1).T
        return float(np.mean(_flipped(differences, patterns) >= observed))
    rng = np.random.default_rng(0)
    extreme = 0
    for count in portions(_SIGN_PATTERNS, len(differences)):
        patterns = rng.integers(0, 2, (count, len(differences)))
        extreme += int(np.sum(_flipped(differences, patterns) >= observed))
    return (1 + extreme) / (1 + _SIGN_PATTERNS)


def mcnemar_exact(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the two-sided p-value of the exact McNemar test on paired yes-no scores.

    McNemar 1947: under the null hypothesis half of the rows on which the two differ favour either,
    which is a binomial test. 1 if they never differ.

    Raises:
        InputError: The two differ in length, or are empty.
    """
    _check_paired(first, second)
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


# ---------------------------------------------------------------------------------------- parts


def _check_some(name: str, values: Sequence[object]) -> None:
    if len(values) == 0:
        raise InputError(f"Parameter `{name}` should hold at least one row. Found none.")


def _check_paired(first: Sequence[object], second: Sequence[object]) -> None:
    if len(first) != len(second) or not first:
        raise InputError(
            "Parameters `first` and `second` should be scores of the same rows. Found "
            f"{len(first)} and {len(second)} of them."
        )


def _flipped(differences: Array, patterns: NDArray[np.int64]) -> Array:
    return np.asarray(np.abs((1 - 2 * patterns) @ differences), dtype=np.float64)


def _percentiles(values: Array, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
