"""Intervals of the balanced score and its parts, by resampling rows of both models together."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.suites.tofu import UTILITY_GROUPS, UTILITY_SCORES
from lit_unlearn.metrics.functional.resampling import Array, resampled_means
from lit_unlearn.metrics.functional.statistics import LEVEL, RESAMPLES, Interval, harmonic_means

__all__ = ["PARTS", "Draws", "intervals", "share"]

PARTS = ("forgetting", "utility", "boundary", "robustness")


class Draws:
    """Resampled values of figures, from the rows of the suites of one evaluation.

    Every model with the same rows of a group gets the same draws, so that differences between rows
    that both models share do not widen the interval of their ratio.
    """

    def __init__(self, rows: Mapping[str, Sequence[Row]], resamples: int = RESAMPLES) -> None:
        self.rows = rows
        self.resamples = resamples

    def of(self, suite: str, figure: str) -> Array | None:
        """Return ``[R]`` values of a figure; None where it is no function of row scores.

        The figure is ``<group>/<score>``, a mean over rows, or TOFU's ``model_utility``.
        """
        if figure == "model_utility":
            means = [self._means(suite, group, UTILITY_SCORES) for group in UTILITY_GROUPS]
            found = [part for part in means if part is not None]
            return harmonic_means(np.concatenate(found)) if len(found) == len(means) else None
        group, _, score = figure.rpartition("/")
        one = self._means(suite, group, (score,))
        return None if one is None else one[0]

    def _means(self, suite: str, group: str, scores: Sequence[str]) -> Array | None:
        """Return ``[S, R]`` means of scores; rows of one question are averaged first."""
        units: dict[str, list[list[float]]] = {}
        for row in self.rows.get(suite, ()):
            values = [row.scores.get(score, np.nan) for score in scores]
            if row.group == group and np.isfinite(values).all():
                units.setdefault(row.asked_of or row.row_id, []).append(values)
        if not units:
            return None
        table = np.array([np.mean(units[key], axis=0) for key in sorted(units)]).T
        rng = np.random.default_rng(zlib.crc32(f"{suite}/{group}".encode()))
        return resampled_means(table, rng, self.resamples)


def share(after: Array, before: Array) -> Array:
    """Return the share that is left, 0 to 1; NaN where there was nothing before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0, np.clip(after / before, 0, 1), np.nan)


def intervals(parts: Mapping[str, Array]) -> dict[str, Interval]:
    """Return 95 % intervals of the parts and of their harmonic mean, ``balance``.

    The values of a part are ``[R]``. A part that is undefined in more than 1 resample of 20 has no
    interval. Neither has a part that is the same in all resamples, such as a recall of 0 in every
    row, as it is not certain for that.
    """
    stacked = np.stack([parts[name] for name in PARTS])
    found: dict[str, Interval] = {}
    for name, values in {**parts, "balance": harmonic_means(stacked)}.items():
        known = values[~np.isnan(values)]
        if len(known) >= LEVEL * len(values):
            low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            if known.min() < known.max():
                found[name] = Interval(float(low), float(high))
    return found
