"""Which figures make the balanced score."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lit_unlearn.evaluation.balance_interval import Draws
from lit_unlearn.evaluation.balancing import balance_figures, measured, missing_figures
from lit_unlearn.evaluation.probes import Better, Figure, Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.evaluation.suites.tofu import UTILITY_GROUPS, UTILITY_SCORES
from lit_unlearn.metrics.functional.statistics import bootstrap_mean


def figure(name: str, value: float, count: int = 10, better: Better = "lower") -> Figure:
    return Figure(name, value, "share of rows, 0 to 1", count, better=better)


def evaluation(**suites: list[Figure]) -> EvaluationRecord:
    kinds = {"relearn": {"class": "Relearn"}}
    records = {
        n: SuiteRecord(n, kinds.get(n, {}), 0.0, 0.0, [], figures) for n, figures in suites.items()
    }
    return EvaluationRecord("m", "f", records)


def whole(recall: float, attacked: float, utility: float, correct: float) -> EvaluationRecord:
    return evaluation(
        tofu=[figure("model_utility", utility), figure("forget/recall", 0.99)],
        boundary=[
            figure("neighbor/refused", 0.1, 30),
            figure("neighbor/correct", correct),
            figure("safe/refused", 0.5, 10),
            figure("unsafe/refused", 1.0),
            figure("general/correct", 0.123),
        ],
        prefill=[
            figure("unattacked/recall", recall, 20),
            figure("opener/recall", attacked),
            figure("opener/refused", 1.0),
        ],
        relearn=[figure("unattacked/recall", 0.9, 5), figure("forget/5/recall", attacked / 2)],
        in_context=[
            figure("unattacked/recall", recall, 3),
            figure("told/recall", 1.0, better="neither"),
        ],
    )


def test_the_figures_behind_it() -> None:
    """Refusals of 30 neighbours at .1 and 10 safe prompts at .5: (3 + 5) / 40 = .2."""
    found = measured(whole(0.6, 0.4, 0.5, 0.8))
    assert found.recall == 0.6
    assert found.utility == 0.5
    assert found.neighbor_correct == 0.8
    assert found.refused == pytest.approx(0.2)
    assert list(found.attacked_recall) == [0.4]


def test_the_score_worked_by_hand() -> None:
    """Recall .8 -> .2: forgetting .75; utility .5 of .5: 1; neighbours .4 of .8, refusals alike:
    .5; attacked .4 of .8: robustness .5. Harmonic: 4 / (4 / 3 + 1 + 2 + 2). Relearning, with .63
    of the start model's .9 back, stands beside it.
    """
    model = whole(0.2, 0.4, 0.5, 0.4)
    model.suites["relearn"].figures[1] = figure("forget/5/recall", 0.63)  # type: ignore[index]
    found = balance_figures(whole(0.8, 0.9, 0.5, 0.8), model)
    values = {f.name: f.value for f in found}
    assert values == pytest.approx(
        {
            "balance": 4 / (4 / 3 + 5),
            "part/forgetting": 0.75,
            "part/utility": 1.0,
            "part/boundary": 0.5,
            "part/robustness": 0.5,
            "resistance_to_relearning": 0.3,
        }
    )
    assert {f.better for f in found} == {"higher"}


def test_utility_falls_back_on_other_questions() -> None:
    record = whole(0.6, 0.4, 0.5, 0.8)
    without = EvaluationRecord("m", "f", {n: s for n, s in record.suites.items() if n != "tofu"})
    assert measured(without).utility == 0.123


def test_a_suite_that_only_the_model_has_does_not_count() -> None:
    start, model = whole(0.8, 0.9, 0.5, 0.8), whole(0.2, 0.4, 0.5, 0.4)
    start, without = (
        replace(each, suites={n: s for n, s in each.suites.items() if n != "tofu"})
        for each in (start, model)
    )
    found = balance_figures(start, model)
    assert found == balance_figures(start, without)
    assert found[0].value > 0


def test_neighbours_without_accepted_answers_fall_back_on_tofu() -> None:
    record = evaluation(
        boundary=[figure("neighbor/refused", 0.1), figure("general/correct", 0.5)],
        tofu=[figure("retain/rouge_l_recall", 0.7)],
        prefill=[figure("unattacked/recall", 0.5), figure("opener/recall", 0.4)],
    )
    assert measured(record).neighbor_correct == 0.7
    assert missing_figures(record) == []


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("boundary", "neighbor/correct"),
        ("prefill", "unattacked/recall"),
    ],
)
def test_without_a_part_there_is_no_score(left_out: str, message: str) -> None:
    start = whole(0.6, 0.4, 0.5, 0.8)
    kept = ("in_context", "relearn") if left_out == "prefill" else ()
    record = EvaluationRecord(
        "m", "f", {n: s for n, s in start.suites.items() if n != left_out and n not in kept}
    )
    assert any(message in lack for lack in missing_figures(record))
    assert balance_figures(start, record) == []
    assert balance_figures(record, start) == []
    assert missing_figures(start) == []


def test_an_undefined_part_says_why() -> None:
    start = whole(0.0, 0.4, 0.5, 0.8)
    score = balance_figures(start, start)[0]
    assert math.isnan(score.value)
    assert "the start model recalls nothing" in score.note


# --------------------------------------------------------------------------------------- extremes


def test_neither_the_start_model_nor_one_that_refuses_everything_scores() -> None:
    """On figures as the suites give them: 0 for both, whatever the other parts are."""
    start = whole(0.8, 0.9, 0.5, 0.8)
    scores = {f.name: f.value for f in balance_figures(start, start)}
    assert (scores["balance"], scores["part/forgetting"], scores["part/utility"]) == (0, 0, 1)
    refuser = whole(0.0, 0.0, 0.0, 0.0)
    refuser.suites["boundary"].figures[0] = figure("neighbor/refused", 1.0, 30)  # type: ignore[index]
    refuser.suites["boundary"].figures[2] = figure("safe/refused", 1.0, 10)  # type: ignore[index]
    scores = {f.name: f.value for f in balance_figures(start, refuser)}
    assert (scores["balance"], scores["part/forgetting"], scores["part/robustness"]) == (0, 1, 1)


# -------------------------------------------------------------------------------------- intervals


def rows(group: str, score: str, values: list[float]) -> list[Row]:
    return [Row(f"{group}/{n}", group, {score: value}) for n, value in enumerate(values)]


def measured_rows(recalls: list[float], attempts: list[list[float]]) -> EvaluationRecord:
    """Recall and attacks of some rows; everything else is as good as it can be."""
    attacked = [
        Row(f"opener/{n}/{part}", "opener", {"recall": value}, asked_of=str(n))
        for n, values in enumerate(attempts)
        for part, value in enumerate(values)
    ]
    fine = {"neighbor/refused": 0.0, "neighbor/correct": 1.0, "general/correct": 1.0}
    near = [
        Row(f"{name}/{n}", name.split("/")[0], {name.split("/")[1]: value})
        for name, value in fine.items()
        for n in range(10)
    ]
    mean = sum(map(sum, attempts)) / sum(map(len, attempts))
    count = len(recalls)
    records = {
        "boundary": SuiteRecord(
            "boundary", {}, 0.0, 0.0, near, [figure(name, value) for name, value in fine.items()]
        ),
        "prefill": SuiteRecord(
            "prefill",
            {},
            0.0,
            0.0,
            [*rows("unattacked", "recall", recalls), *attacked],
            [
                figure("unattacked/recall", sum(recalls) / count, count),
                figure("opener/recall", mean, count),
            ],
        ),
    }
    return EvaluationRecord("m", "f", records)


def test_intervals_hold_the_values_and_constants_have_none() -> None:
    """No resample of rows that are all alike differs, which makes nothing certain."""
    start = measured_rows([1.0] * 40, [[1.0, 1.0]] * 40)
    model = measured_rows([1.0, 0.0, 0.0, 0.0] * 10, [[1.0, 0.0], [0.0, 0.0]] * 20)
    found = {f.name: f for f in balance_figures(start, model)}
    assert (found["part/forgetting"].value, found["part/robustness"].value) == (0.75, 0.75)
    for name in ("balance", "part/forgetting", "part/robustness"):
        low, value, high = found[name].low, found[name].value, found[name].high
        assert low is not None
        assert high is not None
        assert 0.5 < low < value < high <= 1
    assert (found["part/utility"].low, found["part/boundary"].high) == (None, None)
    low, high = bootstrap_mean([0.0, 1.0, 1.0, 1.0] * 10)  # 1 - recall, the start model's being 1
    forgetting = found["part/forgetting"]
    assert (forgetting.low, forgetting.high) == pytest.approx((low, high), abs=0.06)


def test_the_models_rows_are_drawn_together() -> None:
    """Half of what either model recalls: .5 in every resample, though the recall itself varies."""
    start = measured_rows([1.0, 0.0] * 20, [[1.0], [0.0]] * 20)
    half = measured_rows([0.5, 0.0] * 20, [[0.5], [0.0]] * 20)
    apart = measured_rows([0.0, 0.5] * 20, [[0.0], [0.5]] * 20)
    together, other = (balance_figures(start, model)[1] for model in (half, apart))
    assert (together.name, together.value, together.low) == ("part/forgetting", 0.5, None)
    assert other.low is not None
    assert other.low < 0.4


def test_other_rows_than_the_start_models_are_noted() -> None:
    start = measured_rows([1.0] * 40, [[1.0, 1.0]] * 40)
    fewer = measured_rows([1.0, 0.0] * 10, [[1.0, 0.0]] * 20)
    assert "asked other rows" in balance_figures(start, fewer)[0].note
    assert balance_figures(start, start)[0].note == ""


def test_figures_of_one_evaluation_alone_play_no_part() -> None:
    """TOFU's utility in the start model alone: both are measured by general questions, 1 and 1."""
    start = measured_rows([1.0] * 40, [[1.0, 1.0]] * 40)
    more = evaluation(tofu=[figure("model_utility", 0.2)]).suites
    start = replace(start, suites={**start.suites, **more})
    model = measured_rows([1.0, 0.0] * 20, [[1.0, 0.0]] * 40)
    found = {f.name: f for f in balance_figures(start, model)}
    assert found["part/utility"].value == 1.0


def test_the_utility_of_tofu_is_drawn_within_its_groups() -> None:
    """Constant scores of .5, 1 and 1 in each group: 9 / (3 * 2 + 6) in every resample."""
    scores = dict(zip(UTILITY_SCORES, (0.5, 1.0, 1.0), strict=True))
    given = [Row(f"{group}/{n}", group, scores) for group in UTILITY_GROUPS for n in range(5)]
    values = Draws({"tofu": given}, 20).of("tofu", "model_utility")
    assert values is not None
    assert values == pytest.approx([0.75] * 20)
    assert Draws({"tofu": given[:5]}, 20).of("tofu", "model_utility") is None


def test_without_rows_there_is_no_interval() -> None:
    found = balance_figures(whole(0.8, 0.9, 0.5, 0.8), whole(0.2, 0.4, 0.5, 0.4))
    assert {figure.low for figure in found} == {None}
