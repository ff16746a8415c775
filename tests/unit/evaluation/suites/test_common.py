"""What suites share: the part of an answer that is to be recalled, and means with intervals."""

from __future__ import annotations

import math

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Generation, Outcome
from lit_unlearn.evaluation.suites.common import (
    answerable,
    ask,
    mean_figure,
    not_given,
    recall,
    recall_note,
    subject_outcomes,
    target_of,
)
from lit_unlearn.metrics.functional.statistics import bootstrap_mean, clopper_pearson
from lit_unlearn.types import Example, Turn

NOVEL = Example(
    "set/1", (Turn("user", "Who wrote it?"),), "Victor Hugo wrote it.", "question_answer"
)
ACCEPTING = Example(
    "set/2",
    (Turn("user", "Who wrote it?"),),
    "It was Victor Hugo.",
    "question_answer",
    accepted=("Victor Hugo",),
)


@pytest.mark.parametrize(
    ("gold", "prefill", "rest"),
    [
        ("It is Paris", "", "It is Paris"),
        ("It is Paris", "Of course! It is", "Paris"),
        ("It is Paris", "it IS", "Paris"),
        ("It is Paris", "It is what it", "is Paris"),
        ("It is Paris", "Paris", "It is Paris"),
        ("It is Paris", "I say: It is Paris", ""),
        ("a b a b c", "a b a b", "c"),
    ],
)
def test_the_rest_is_what_the_prefill_does_not_give(gold: str, prefill: str, rest: str) -> None:
    assert not_given(gold, prefill) == rest


def test_given_words_earn_nothing() -> None:
    """Of "Victor Hugo wrote it." after "Victor Hugo", two words remain; the reply has one."""
    target = target_of(NOVEL, "Victor Hugo")
    assert target is not None
    assert target.recall("Victor Hugo Victor Hugo", "Victor Hugo") == 0.0
    assert target.recall("painted it", "Victor Hugo") == 0.5


def test_an_accepted_answer_may_begin_in_the_prefill() -> None:
    target = target_of(ACCEPTING, "It was Victor")
    assert target is not None
    assert target.recall("Hugo.", "It was Victor") == 1.0
    assert target.recall("Horta.", "It was Victor") == 0.0


def test_a_prefill_with_an_accepted_answer_gives_all_away() -> None:
    assert target_of(ACCEPTING, "Surely Victor Hugo") is None


def test_accepted_answers_in_the_question_do_not_count() -> None:
    row = Example(
        "set/3",
        (Turn("user", "What else was Louis XIV called?"),),
        "He was called the Sun King.",
        "question_answer",
        accepted=("Louis XIV", "Sun King"),
    )
    assert recall(row, "Louis XIV") == 0.0
    assert recall(row, "the Sun King") == 1.0


def test_rows_without_anything_to_recall() -> None:
    answerless = Example("set/4", (Turn("user", "Why?"),), "", "question_answer")
    assert math.isnan(recall(answerless, "Because."))
    assert answerable([answerless, NOVEL], "x") == [NOVEL]
    with pytest.raises(InputError, match=r"suite x should have rows with an answer.*none of 1"):
        answerable([answerless], "x")


def test_replies_of_one_row_are_averaged_first() -> None:
    """Rows a: 1, 0 -> 1/2 and b: 1 -> 1; their mean is 3/4 over two rows, not 2/3 over three."""
    figure = mean_figure("g/s", [1.0, 0.0, 1.0], ["a", "a", "b"])
    ends = bootstrap_mean([0.5, 1.0])
    assert (figure.value, figure.count) == (0.75, 2)
    assert (figure.low, figure.high) == (ends.low, ends.high)


def test_yes_and_no_get_an_exact_interval() -> None:
    figure = mean_figure("g/s", [1.0, 0.0, math.nan, 0.0], ["a", "b", "c", "d"])
    ends = clopper_pearson(1, 3)
    assert (figure.value, figure.count) == (pytest.approx(1 / 3), 3)
    assert (figure.low, figure.high) == (ends.low, ends.high)


def test_no_row_gives_nan_and_says_so() -> None:
    figure = mean_figure("g/s", [math.nan], ["a"], note="about it")
    assert math.isnan(figure.value)
    assert figure.count == 0
    assert figure.note == "about it; no row on which this is defined"


def test_the_note_says_how_recall_was_decided() -> None:
    assert recall_note([ACCEPTING]) == "by accepted answers"
    assert recall_note([NOVEL]) == "by ROUGE-L recall"
    assert recall_note([NOVEL, ACCEPTING]) == "by ROUGE-L recall (1 rows by accepted answers)"


@pytest.mark.parametrize("outcomes", [{}, {"": [Outcome("other")]}, {"int4": [Outcome("g/set/1")]}])
def test_outcomes_of_other_probes_are_refused(outcomes: dict[str, list[Outcome]]) -> None:
    with pytest.raises(InputError, match=r"`outcomes` should hold, under the name ''"):
        subject_outcomes([ask(NOVEL, "g", Generation())], outcomes)
