"""Paired tests on common rows, and Holm's correction."""

from __future__ import annotations

import math

import pytest

from lit_unlearn.evaluation.compare import compare_evaluations, holm
from lit_unlearn.evaluation.probes import Figure, Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord


def evaluation(scores: dict[str, list[float]], suite: str = "s") -> EvaluationRecord:
    """One group `g`; row n has the n-th value of each score, and each score is a figure."""
    count = max(map(len, scores.values()))
    rows = [
        Row(f"g/{n}", "g", {name: values[n] for name, values in scores.items() if n < len(values)})
        for n in range(count)
    ]
    figures = [Figure(f"g/{name}", 0.0, "", count) for name in scores]
    record = SuiteRecord(suite, {}, 0.0, 0.0, rows, [*figures, Figure("whole", 0.0, "", count)])
    return EvaluationRecord("m", "f", {suite: record})


def test_holm_worked_by_hand() -> None:
    """Sorted .01 .02 .04 .5 times 4 3 2 1: .04 .06 .08 .5, already rising."""
    assert holm([0.5, 0.01, 0.04, 0.02]) == pytest.approx([0.5, 0.04, 0.08, 0.06])


def test_holm_never_falls_and_stays_below_one() -> None:
    """.03 * 3 = .09; .031 * 2 = .062 is raised to .09; .9 stays; with .6 .7: 1, then at least 1."""
    assert holm([0.03, 0.031, 0.9]) == pytest.approx([0.09, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


def test_binary_scores_take_mcnemar() -> None:
    """Six rows differ, all in one direction: two-sided binomial 2 * (1 / 2) ** 6."""
    (found,) = compare_evaluations(
        evaluation({"correct": [1.0] * 6 + [0.0] * 4}), evaluation({"correct": [0.0] * 10})
    )
    assert (found.suite, found.figure, found.rows) == ("s", "g/correct", 10)
    assert (found.first, found.second) == (0.6, 0.0)
    assert found.test == "McNemar, exact"
    assert found.p_value == pytest.approx(2 / 2**6)
    assert found.p_holm == found.p_value


def test_other_scores_take_sign_flips() -> None:
    """Four differences of one sign: only all plus and all minus are as extreme, 2 of 16."""
    (found,) = compare_evaluations(
        evaluation({"rouge": [0.5, 0.75, 0.25, 1.0]}), evaluation({"rouge": [0.25, 0.5, 0.0, 0.5]})
    )
    assert found.test == "sign flips"
    assert found.p_value == pytest.approx(2 / 16)


def test_attempts_on_one_question_are_one_observation() -> None:
    """Three questions, four attempts each, all better: 2 of 8 sign patterns, not 2 of 2 ** 12."""

    def attempts(values: list[float]) -> EvaluationRecord:
        rows = [
            Row(f"g/{q}/{part}", "g", {"recall": value}, asked_of=f"row {q}")
            for q, value in enumerate(values)
            for part in range(4)
        ]
        record = SuiteRecord("s", {}, 0.0, 0.0, rows, [Figure("g/recall", 0.0, "", 3)])
        return EvaluationRecord("m", "f", {"s": record})

    (found,) = compare_evaluations(attempts([1.0, 1.0, 1.0]), attempts([0.0, 0.5, 0.25]))
    assert (found.rows, found.first, found.second) == (3, 1.0, 0.25)
    assert found.p_value == pytest.approx(2 / 8)


def test_only_rows_that_both_scored_count() -> None:
    """Row 1 is NaN in the first, row 3 in neither file of the second."""
    (found,) = compare_evaluations(
        evaluation({"correct": [1.0, math.nan, 0.0, 1.0]}),
        evaluation({"correct": [1.0, 1.0, 0.0]}),
    )
    assert (found.rows, found.first, found.second, found.p_value) == (2, 0.5, 0.5, 1.0)


def test_all_figures_are_corrected_together_and_others_left_out() -> None:
    """`whole` has no row scores; `more` is not in the second: two tests, so that p doubles."""
    first = {"a": [1.0] * 6, "b": [1.0] * 6, "more": [1.0] * 6}
    second = {"a": [0.0] * 6, "b": [1.0] * 6}
    found = compare_evaluations(evaluation(first), evaluation(second))
    assert [c.figure for c in found] == ["g/a", "g/b"]
    assert [c.p_value for c in found] == pytest.approx([2 / 2**6, 1.0])
    assert [c.p_holm for c in found] == pytest.approx([4 / 2**6, 1.0])


def test_no_suite_in_common() -> None:
    assert compare_evaluations(evaluation({"a": [1.0]}), evaluation({"a": [1.0]}, "other")) == []


def test_order_of_rows_and_sides() -> None:
    """Rows are matched by id; exchanged sides have the same p-value."""
    first = evaluation({"a": [0.1, 0.9, 0.4]})
    second = evaluation({"a": [0.2, 0.5, 0.8]})
    record = second.suites["s"]
    turned = SuiteRecord("s", {}, 0.0, 0.0, record.rows[::-1], record.figures)
    again = EvaluationRecord("m", "f", {"s": turned})
    assert compare_evaluations(first, again) == compare_evaluations(first, second)
    (there,), (back,) = compare_evaluations(first, second), compare_evaluations(second, first)
    assert (there.p_value, there.first) == (back.p_value, back.second)
