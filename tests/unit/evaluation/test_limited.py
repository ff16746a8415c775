"""A part of a suite: evenly spread rows, whole rows, the same store keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from lit_unlearn.evaluation.limited import Limited, spread_rows
from lit_unlearn.evaluation.probes import Outcome, Probe, Row, Subject, Suite, SuiteResult
from lit_unlearn.evaluation.subjects import Loading, load_subject
from lit_unlearn.types import Example, Turn


def probe(group: str, number: int, part: str = "") -> Probe:
    example = Example(f"set/{number}", (Turn("user", "Q"),), "A", "question_answer")
    return Probe(f"{group}/{number}{part}", group, example, example.turns)


@dataclass
class OwnWay(Suite):
    """Asks ten rows, twice each, and answers by itself."""

    name: ClassVar[str] = "own_way"
    setting: int = 1

    def probes(self, data_root: Path | None) -> list[Probe]:
        return [probe("g", n, part) for n in range(10) for part in "ab"]

    def score(
        self,
        probes: Sequence[Probe],
        outcomes: Mapping[str, Sequence[Outcome]],
        reference: Mapping[str, Sequence[Row]] | None = None,
    ) -> SuiteResult:
        return SuiteResult([Row(p.probe_id, p.group, {}) for p in probes], [])

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        return [Outcome(p.probe_id) for p in probes]


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, [0]), (2, [0, 5]), (3, [0, 3, 6]), (10, range(10)), (99, range(10))]
)
def test_rows_are_spread_evenly(rows: int, expected: Sequence[int]) -> None:
    """Row i of n is number i * 10 // n of the group."""
    chosen = spread_rows([probe("g", n) for n in range(10)], rows)
    assert [p.probe_id for p in chosen] == [f"g/{n}" for n in expected]


def test_each_group_has_its_own_rows_and_the_order_stays() -> None:
    """`b` has the row 0 as well, which is another row there."""
    probes = [probe("a", 0), probe("b", 0), probe("a", 1), probe("b", 1), probe("b", 2)]
    assert [p.probe_id for p in spread_rows(probes, 1)] == ["a/0", "b/0"]
    assert [p.probe_id for p in spread_rows(probes, 2)] == ["a/0", "b/0", "a/1", "b/1"]


def test_a_row_keeps_all_its_probes() -> None:
    part = Limited(OwnWay(), 2)
    assert [p.probe_id for p in part.probes(None)] == ["g/0a", "g/0b", "g/5a", "g/5b"]


def test_everything_else_is_the_whole_suites() -> None:
    subject = load_subject("random-tiny", Loading(device="cpu"))
    whole = OwnWay(3)
    part = Limited(whole, 2)
    probes = part.probes(None)
    assert part.name == "own_way"
    assert part.answer(subject, probes) == whole.answer(subject, probes)
    assert part.answer_key() == whole.answer_key() != OwnWay(4).answer_key()
    assert part.score(probes, {}) == whole.score(probes, {})
    (variant,) = part.variants(subject, None)
    assert variant.make() is subject.model


def test_the_reference_is_cut_to_the_same_rows() -> None:
    """Of ten rows two are asked: the others of the reference are not looked at."""
    seen: list[object] = []

    class Checks(OwnWay):
        def score(
            self,
            probes: Sequence[Probe],
            outcomes: Mapping[str, Sequence[Outcome]],
            reference: Mapping[str, Sequence[Row]] | None = None,
        ) -> SuiteResult:
            seen.append(reference)
            return super().score(probes, outcomes, reference)

        def check(
            self, probes: Sequence[Probe], reference: Mapping[str, Sequence[Row]] | None
        ) -> None:
            seen.append(reference)

    whole = [Row(f"g/{n}{part}", "g", {}) for n in range(10) for part in "ab"]
    suite = Limited(Checks(), 2)
    probes = suite.probes(None)
    suite.check(probes, {"g": whole})
    suite.score(probes, {}, {"g": whole})
    assert seen == [{"g": [whole[0], whole[1], whole[10], whole[11]]}] * 2
    suite.check(probes, None)
    assert seen[2:] == [None]
