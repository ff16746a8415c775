"""Bounds of figures, and the verdict that follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord

__all__ = ["Check", "Outcome", "Threshold", "Verdict", "checks", "find_figure", "verdict_of"]

Verdict = Literal["met", "not met", "nothing to forget"]
Outcome = Literal["met", "not met", "not measured"]
_BALANCE = "balance"
"""First part of the names of the balanced score and its parts, as for a suite."""


@dataclass(frozen=True)
class Threshold:
    """Bound of one figure.

    Args:
        figure: Suite and figure as in the table of an evaluation: `prefill/unattacked/recall`; or
            `balance/part/boundary`, a part of the balanced score.
        at_most: Largest value that meets the bound.
        at_least: Smallest value that meets it; give one of the two.
        of_start: Whether the bound is a share of the start model's figure.
    """

    figure: str
    at_most: float | None = None
    at_least: float | None = None
    of_start: bool = False

    def __post_init__(self) -> None:
        given = [each for each in (self.at_most, self.at_least) if each is not None]
        if len(given) != 1 or not math.isfinite(given[0]):
            raise InputError(
                f"Threshold of {self.figure!r} should have one number, `at_most` or `at_least`. "
                f"Found at_most {self.at_most} and at_least {self.at_least}; give one of them."
            )
        if not all(self.figure.partition("/")):
            raise InputError(
                "Parameter `figure` of a threshold should be a suite and a figure, such as "
                f"`prefill/unattacked/recall`. Found {self.figure!r}; add the missing part."
            )

    @property
    def bound(self) -> str:
        """The bound in words."""
        side = "at least" if self.at_most is None else "at most"
        number = self.at_least if self.at_most is None else self.at_most
        return f"{side} {number:g}{' of the start' if self.of_start else ''}"

    def holds(self, value: float, start: float) -> bool:
        """Return whether a figure of the model, and of its start, meets the bound."""
        unit = start if self.of_start else 1.0
        if self.at_most is not None:
            return value <= self.at_most * unit
        return self.at_least is not None and value >= self.at_least * unit


@dataclass(frozen=True)
class Check:
    """One threshold, and the figure that it was compared with."""

    threshold: Threshold
    start: float
    """Figure of the start model; NaN if it was not measured."""
    value: float
    """Figure of the model; NaN if it was not measured."""
    low: float | None
    """Lower end of the 95 % interval; None for none."""
    high: float | None
    count: int
    """Number of rows of the figure."""
    note: str = ""
    """Reason why the figure is missing or undefined."""

    @property
    def name(self) -> str:
        """Name of the figure."""
        return self.threshold.figure

    @property
    def bound(self) -> str:
        """The bound in words."""
        return self.threshold.bound

    @property
    def outcome(self) -> Outcome:
        """The comparison of the value with the bound."""
        keeps = self.threshold.at_least is not None
        nothing = math.isnan(self.start) or (keeps and self.start <= 0)
        if math.isnan(self.value) or (self.threshold.of_start and nothing):
            return "not measured"
        return "met" if self.threshold.holds(self.value, self.start) else "not met"

    @property
    def met(self) -> bool:
        """Whether the figure was measured and meets the bound."""
        return self.outcome == "met"

    @property
    def is_certain(self) -> bool:
        """Whether the whole interval is on the value's side of the bound.

        The uncertainty of the start model's figure does not count.
        """
        ends = [end for end in (self.low, self.high) if end is not None]
        sides = [self.threshold.holds(end, self.start) == self.met for end in ends]
        return bool(sides) and all(sides)


def checks(
    thresholds: Sequence[Threshold], record: EvaluationRecord, start: EvaluationRecord | None
) -> tuple[Check, ...]:
    """Compare the figures of an evaluation with thresholds.

    A figure that is missing or undefined is "not measured", and never "met". So is a share to be
    kept of a start figure that is 0 or unknown. Where at most a share of 0 may be left, 0 meets the
    bound.

    Args:
        thresholds: Bounds, in the order of the result.
        record: Evaluation of the model.
        start: Evaluation of the model before unlearning, on the same rows; None for none.
    """
    return tuple(_check(each, record, start) for each in thresholds)


def _check(threshold: Threshold, record: EvaluationRecord, start: EvaluationRecord | None) -> Check:
    found = find_figure(record, threshold.figure)
    before = None if start is None else find_figure(start, threshold.figure)
    base = math.nan if before is None else before.value
    if found is None:
        return Check(threshold, base, math.nan, None, None, 0, "the evaluation has no such figure")
    check = Check(threshold, base, found.value, found.low, found.high, found.count, found.note)
    if check.outcome == "not measured" and not math.isnan(found.value):
        return replace(check, note="the start model has no such figure above 0")
    return check


def find_figure(record: EvaluationRecord, name: str) -> Figure | None:
    """Return the figure ``<suite>/<figure>`` of an evaluation, or None."""
    suite, _, figure = name.partition("/")
    own = record.suites.get(suite)
    known = record.balance if suite == _BALANCE else () if own is None else own.figures
    return next((each for each in known if each.name == figure), None)


def verdict_of(found: Sequence[Check]) -> Verdict:
    """Return "met" if there are checks and all of them are met, else "not met"."""
    return "met" if found and all(check.met for check in found) else "not met"
