"""A part of a suite: evenly spread rows, whole rows, the same rows of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from lit_unlearn.evaluation.limited import limited
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
)
from lit_unlearn.evaluation.subjects import Loading, load_subject
from lit_unlearn.evaluation.suite_run import check_suites, run_suite
from lit_unlearn.types import Example, Turn


def probe(group: str, number: int, part: str = "") -> Probe:
    example = Example(f"set/{number}", (Turn("user", "Q"),), "A", "question_answer")
    return Probe(f"{group}/{number}{part}", group, example, example.turns)


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, [0]), (2, [0, 5]), (3, [0, 3, 6]), (10, range(10)), (99, range(10))]
)
def test_rows_are_spread_evenly(rows: int, expected: Sequence[int]) -> None:
    """Row i of n is number i * 10 // n of the group."""
    chosen = limited([probe("g", n) for n in range(10)], rows)
    assert [p.probe_id for p in chosen] == [f"g/{n}" for n in expected]


def test_each_group_has_its_own_rows_and_the_order_stays() -> None:
    """`b` has the row 0 as well, which is another row there."""
    probes = [probe("a", 0), probe("b", 0), probe("a", 1), probe("b", 1), probe("b", 2)]
    assert [p.probe_id for p in limited(probes, 1)] == ["a/0", "b/0"]
    assert [p.probe_id for p in limited(probes, 2)] == ["a/0", "b/0", "a/1", "b/1"]


def test_a_row_keeps_all_its_probes() -> None:
    probes = [probe("g", n, part) for n in range(10) for part in "ab"]
    assert [p.probe_id for p in limited(probes, 2)] == ["g/0a", "g/0b", "g/5a", "g/5b"]
    assert limited(probes, None) == probes


@dataclass
class OwnWay(Suite):
    """Asks ten rows, twice each, answers by itself, and keeps the references that it gets."""

    name: ClassVar[str] = "own_way"
    seen: list[Reference] = field(default_factory=list)

    def probes(self, data_root: Path | None) -> list[Probe]:
        return [probe("g", n, part) for n in range(10) for part in "ab"]

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        self.seen.append(reference)
        return SuiteResult([Row(p.probe_id, p.group, {}) for p in probes], [])

    def check(self, probes: Probes, reference: Reference) -> None:
        self.seen.append(reference)

    def answer(self, subject: Subject, probes: Probes) -> list[Outcome]:
        return [Outcome(p.probe_id) for p in probes]


def test_a_limited_run_scores_the_same_rows_of_the_reference() -> None:
    """Of ten rows two are asked: the others of the reference are not looked at."""
    subject, suite = load_subject("random-tiny", Loading(device="cpu")), OwnWay()
    whole = [Row(f"g/{n}{part}", "g", {}) for n in range(10) for part in "ab"]
    chosen = [whole[0], whole[1], whole[10], whole[11]]
    found = run_suite(suite, subject, reference={"g": whole}, limit=2)
    assert [row.row_id for row in found.rows] == [row.row_id for row in chosen]
    check_suites({"s": suite}, references={"s": {"g": whole}}, limit=2)
    check_suites({"s": suite}, limit=2)
    assert suite.seen == [{"g": chosen}, {"g": chosen}, None]
