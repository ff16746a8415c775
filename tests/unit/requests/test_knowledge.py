"""Knowledge: questions that count as known, by what is said and by what is likely."""

from __future__ import annotations

import math

import pytest

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.requests.knowledge import LIKELY, SAID, knowledge


def record(**suites: list[tuple[str, str, dict[str, float]]]) -> EvaluationRecord:
    made = {
        name: SuiteRecord(
            name, {}, 0, 0, [Row(f"{g}/{q}", g, scores, q) for g, q, scores in rows], []
        )
        for name, rows in suites.items()
    }
    return EvaluationRecord("m", "f", made)


NLL = -math.log(LIKELY)


@pytest.mark.parametrize(
    ("scores", "known"),
    [
        ({"recall": SAID, "answer_nll": 9.0}, True),
        ({"recall": SAID - 0.01, "answer_nll": 9.0}, False),
        ({"recall": 0.0, "answer_nll": NLL}, True),
        ({"recall": math.nan, "answer_nll": NLL + 0.01}, False),
    ],
)
def test_what_is_said_or_likely_is_known(scores: dict[str, float], known: bool) -> None:
    assert knowledge(record(prefill=[("unattacked", "q", scores)])).value == float(known)


def test_each_question_counts_once_by_its_best_evidence() -> None:
    """a is known by the lens, b in another suite, c is not, and attacks do not count: 2 of 3."""
    no, yes = {"recall": 0.0}, {"recall": 1.0}
    found = knowledge(
        record(
            prefill=[("unattacked", "a", no), ("unattacked", "b", no), ("opener", "c", yes)],
            reworded=[("unattacked", "b", yes), ("unattacked", "c", no), ("reworded", "d", yes)],
            depth=[("forget", "a", {"lens": LIKELY, "probability": 0.1})],
        )
    )
    assert (found.value, found.count) == (pytest.approx(2 / 3), 3)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 2 / 3 < found.high


def test_without_questions_nothing_is_known() -> None:
    assert math.isnan(knowledge(record()).value)
