"""A part of a suite: the same definitions on fewer rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lit_unlearn.evaluation.probes import (
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Row,
    Subject,
    Suite,
    SuiteResult,
    Variant,
)
from lit_unlearn.utils.spread import evenly_spread


class Limited(Suite):
    """A suite put to at most so many rows of each group, spread evenly over the group.

    A row that is asked several times is kept with all its probes, so that scores over them mean the
    same as in the whole suite. The same rows are chosen for every model.

    Args:
        suite: The whole suite.
        rows: Most rows of each group.
    """

    def __init__(self, suite: Suite, rows: int) -> None:
        self.suite = suite
        self.rows = rows

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the whole suite."""
        return self.suite.name

    def probes(self, data_root: Path | None) -> list[Probe]:
        """Those of the whole suite that belong to the chosen rows."""
        return spread_rows(self.suite.probes(data_root), self.rows)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        """As the whole suite does, against the same rows of the reference."""
        return self.suite.score(probes, outcomes, _same_rows(probes, reference))

    def check(self, probes: Probes, reference: Reference) -> None:
        """As the whole suite does, likewise."""
        self.suite.check(probes, _same_rows(probes, reference))

    def without_reference(self) -> Suite:
        """The same part of the whole suite without what needs a reference."""
        return Limited(self.suite.without_reference(), self.rows)

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        """As the whole suite has them."""
        return self.suite.variants(subject, data_root)

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome] | None:
        """As the whole suite does."""
        return self.suite.answer(subject, probes)

    def answer_key(self) -> str:
        """That of the whole suite: what was stored of the one is used for the other."""
        return self.suite.answer_key()


def _same_rows(probes: Sequence[Probe], reference: Reference) -> dict[str, list[Row]] | None:
    """The reference's rows that are among the probes."""
    if reference is None:
        return None
    asked = {probe.probe_id for probe in probes}
    return {
        group: [row for row in rows if row.row_id in asked] for group, rows in reference.items()
    }


def spread_rows(probes: Sequence[Probe], rows: int) -> list[Probe]:
    """The probes of at most ``rows`` rows of each group, spread evenly, in the given order."""
    groups: dict[str, dict[str, None]] = {}
    for probe in probes:
        groups.setdefault(probe.group, {})[probe.example.example_id] = None
    chosen: set[tuple[str, str]] = set()
    for group, members in groups.items():
        chosen |= {(group, row) for row in evenly_spread(list(members), rows)}
    return [probe for probe in probes if (probe.group, probe.example.example_id) in chosen]
