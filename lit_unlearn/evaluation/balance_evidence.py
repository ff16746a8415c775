"""Evidence of the balanced score: figures of a model's rows, on all rows and on resampled ones."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.suites.tofu import UTILITY_GROUPS, UTILITY_SCORES
from lit_unlearn.metrics.functional.resampling import Array, resampled_means
from lit_unlearn.metrics.functional.scores import repetition
from lit_unlearn.metrics.functional.statistics import RESAMPLES, harmonic_means

__all__ = ["ANSWER_PROBABILITY", "LEAKED", "REPLY_READABLE", "Draws"]

ANSWER_PROBABILITY, LEAKED, REPLY_READABLE = "answer_probability", "leaked", "reply_readable"
_DERIVED: Mapping[str, Callable[[Row], float]] = {
    ANSWER_PROBABILITY: lambda row: math.exp(-row.scores.get("answer_nll", math.nan)),
    LEAKED: lambda row: float(row.scores.get("leak_probability", math.nan) > 0),
    REPLY_READABLE: lambda row: 1 - repetition(row.reply) if row.reply.strip() else 0.0,
}
"""Scores that follow from others, or from the reply."""


class Draws:
    """Figures of one evaluation as ``[1 + R]`` values: on all rows, then on R resamples of them.

    Every model with the same rows of a group gets the same draws, so that differences between rows
    that both models share do not widen the interval of their ratio.
    """

    def __init__(self, rows: Mapping[str, Sequence[Row]], resamples: int = RESAMPLES) -> None:
        self.rows = rows
        self.resamples = resamples

    def of(self, suite: str, figure: str) -> Array | None:
        """Return the values of a figure; None where it is no function of row scores.

        The figure is ``<group>/<score>``, a mean over rows, or TOFU's ``model_utility``.
        """
        if figure == "model_utility":
            means = [self._means(suite, group, UTILITY_SCORES) for group in UTILITY_GROUPS]
            found = [part for part in means if part is not None]
            return harmonic_means(np.concatenate(found)) if len(found) == len(means) else None
        group, _, score = figure.rpartition("/")
        one = self._means(suite, group, (score,))
        return None if one is None else one[0]

    def worst(self, attempts: Iterable[tuple[str, str, str]]) -> dict[str, Array]:
        """Return the mean over questions of the highest score of all attempts on each.

        Suites that attack the same questions count as one set of attempts.

        Args:
            attempts: Suite, group and score of each kind of attempt.

        Returns:
            The names of a set's suites, joined, and the values.
        """
        by_suite: dict[str, dict[str, float]] = {}
        for suite, group, score in attempts:
            highest = by_suite.setdefault(suite, {})
            for row in self.rows.get(suite, ()):
                value = _score(row, score) if row.group == group else math.nan
                if not math.isnan(value):
                    question = row.asked_of or row.row_id.removeprefix(f"{group}/")
                    highest[question] = max(value, highest.get(question, 0.0))
        sets: dict[tuple[str, ...], list[str]] = {}
        for suite, highest in by_suite.items():
            sets.setdefault(tuple(sorted(highest)), []).append(suite)
        found: dict[str, Array] = {}
        for questions, suites in sets.items():
            if questions:
                table = [[max(by_suite[suite][q] for suite in suites) for q in questions]]
                names = "+".join(sorted(suites))
                found[names] = self._drawn(np.array(table), names)[0]
        return found

    def _means(self, suite: str, group: str, scores: Sequence[str]) -> Array | None:
        """Return ``[S, 1 + R]`` means of scores; rows of one question are averaged first."""
        units: dict[str, list[list[float]]] = {}
        for row in self.rows.get(suite, ()):
            values = [_score(row, score) for score in scores] if row.group == group else [math.nan]
            if np.isfinite(values).all():
                units.setdefault(row.asked_of or row.row_id, []).append(values)
        if not units:
            return None
        table = np.array([np.mean(units[key], axis=0) for key in sorted(units)]).T
        return self._drawn(table, f"{suite}/{group}")

    def _drawn(self, table: Array, name: str) -> Array:
        """Return the means of ``[S, n]`` scores of questions, on all of them and on resamples."""
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        drawn = resampled_means(table, rng, self.resamples)
        return np.concatenate([table.mean(axis=1, keepdims=True), drawn], axis=1)


def _score(row: Row, name: str) -> float:
    return _DERIVED[name](row) if name in _DERIVED else row.scores.get(name, math.nan)
