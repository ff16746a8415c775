"""Several suites on one model: records, settings, references, what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from lit_unlearn.evaluation.evaluate import evaluate, versions
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Figure, Outcome, Probe, Row, Subject, Suite, SuiteResult
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord, settings_of
from lit_unlearn.evaluation.subjects import load_subject
from lit_unlearn.types import Example, Turn


@dataclass
class Likelihood(Suite):
    """The log-probability of a number's name."""

    name: ClassVar[str] = "likelihood"
    words: list[str] = field(default_factory=lambda: ["one", "two", "three", "four"])

    def probes(self, data_root: Path | None) -> list[Probe]:
        found = []
        for number, word in enumerate(self.words):
            example = Example(f"n/{number}", (Turn("user", str(number)),), word, "question_answer")
            turns = example.turns
            found.append(Probe(f"g/{number}", "g", example, turns, candidates={"answer": word}))
        return found

    def score(
        self,
        probes: Sequence[Probe],
        outcomes: Mapping[str, Sequence[Outcome]],
        reference: Mapping[str, Sequence[Row]] | None = None,
    ) -> SuiteResult:
        rows = [
            Row(p.probe_id, p.group, {"log_prob": sum(o.forced["answer"].log_probs)})
            for p, o in zip(probes, outcomes[""], strict=True)
        ]
        known = len((reference or {}).get("g", ()))
        return SuiteResult(rows, [Figure("known", float(known), "rows", len(rows))])


@pytest.fixture
def subject() -> Subject:
    return load_subject("random-tiny", device="cpu")


def test_every_suite_gets_a_record(tmp_path: Path, subject: Subject) -> None:
    suites = {"few": Likelihood(["one"]), "all": Likelihood()}
    told: list[SuiteRecord] = []
    found = evaluate(suites, subject, Store(tmp_path), progress=told.append)
    assert list(found) == ["few", "all"]
    assert told == list(found.values())
    assert [len(record.rows) for record in told] == [1, 4]
    assert found["few"].settings == {"class": "Likelihood", "words": ["one"]}
    assert found["few"].rows[0] == found["all"].rows[0]
    assert all(record.seconds > 0 and record.cpu_seconds >= 0 for record in told)


def test_a_limited_evaluation_uses_what_is_stored(
    tmp_path: Path, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate({"s": Likelihood()}, subject, Store(tmp_path))
    monkeypatch.setattr("lit_unlearn.evaluation.suite_run.ask", None)  # nothing may be asked again
    part = evaluate({"s": Likelihood()}, subject, Store(tmp_path), limit=2)
    assert [row.row_id for row in part["s"].rows] == ["g/0", "g/2"]
    assert list(part["s"].rows) == [whole["s"].rows[0], whole["s"].rows[2]]


def test_the_reference_reaches_the_suite_of_its_name(tmp_path: Path, subject: Subject) -> None:
    suites = {"one": Likelihood(["one", "two"]), "other": Likelihood(["one"])}
    first = EvaluationRecord("m", "f", evaluate(suites, subject, Store(tmp_path)))
    rows = first.rows_by_group()
    assert {name: list(groups) for name, groups in rows.items()} == {"one": ["g"], "other": ["g"]}
    found = evaluate(suites, subject, Store(tmp_path), reference={"one": rows["one"]})
    assert [record.figures[0].value for record in found.values()] == [2.0, 0.0]


def test_settings_of_a_class_without_fields() -> None:
    class Plain(Likelihood):
        def __init__(self, rows: int) -> None:
            super().__init__(["one"] * rows)
            self._hidden = 1

    assert settings_of(Plain(2)) == {"class": "Plain", "words": ["one", "one"]}


def test_versions_name_what_decides_the_figures() -> None:
    assert versions().keys() == {"lit_unlearn", "torch", "transformers", "python"}
