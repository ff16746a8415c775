"""The balanced score: its parts, and who must not win."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.balance import Balance, Measured, balance

START = Measured(recall=0.8, utility=0.6, neighbor_correct=0.9, refused=0.0, attacked_recall=(0.7,))
PERFECT = replace(START, recall=0.0, attacked_recall=(0.0, 0.0))
REFUSING = Measured(
    recall=0.0, utility=0.0, neighbor_correct=0.0, refused=1.0, attacked_recall=(0.0,)
)


def parts(found: Balance) -> tuple[float, float, float, float]:
    return found.forgetting, found.utility, found.boundary, found.robustness


def test_a_perfect_model_scores_one() -> None:
    assert balance(START, PERFECT) == Balance(1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_worked_value() -> None:
    """recall .8 -> .2: 3/4; utility .6 -> .45: 3/4; boundary .75 * (.45/.9) = 3/8; worst .4: 1/2.

    Harmonic mean 4 / (4/3 + 4/3 + 8/3 + 2) = 4 / (22/3) = 6/11.
    """
    model = Measured(0.2, 0.45, 0.45, 0.25, (0.1, 0.4))
    found = balance(START, model)
    assert parts(found) == pytest.approx((0.75, 0.75, 0.375, 0.5))
    assert found.score == pytest.approx(6 / 11)
    assert found.notes == ()


@pytest.mark.parametrize(
    "model",
    [
        START,
        replace(START, recall=0.78, attacked_recall=(0.5,)),
        REFUSING,
        replace(REFUSING, utility=0.01, neighbor_correct=0.02, refused=0.98),
    ],
    ids=["start", "start, measured again", "refuses", "refuses nearly all"],
)
def test_neither_the_start_model_nor_one_that_refuses_scores(model: Measured) -> None:
    assert balance(START, model).score <= 0.1


@pytest.mark.parametrize(
    ("worse", "part"),
    [
        ({"recall": 0.3}, "forgetting"),
        ({"utility": 0.4}, "utility"),
        ({"neighbor_correct": 0.4}, "boundary"),
        ({"refused": 0.4}, "boundary"),
        ({"attacked_recall": (0.1, 0.6)}, "robustness"),
    ],
)
def test_each_figure_moves_its_part_and_the_score(worse: dict[str, float], part: str) -> None:
    model = Measured(0.2, 0.5, 0.5, 0.2, (0.1, 0.4))
    before, after = balance(START, model), balance(START, replace(model, **worse))  # type: ignore[arg-type]
    assert after.score < before.score
    assert getattr(after, part) < getattr(before, part)
    names = {"forgetting", "utility", "boundary", "robustness"} - {part}
    assert all(getattr(after, name) == getattr(before, name) for name in names)


def test_more_than_the_start_model_had_is_cut_off() -> None:
    found = balance(START, Measured(0.9, 0.9, 1.0, 0.0, (0.95,)))
    assert parts(found) == (0.0, 1.0, 1.0, 0.0)
    assert found.score == 0.0


@pytest.mark.parametrize(
    ("start", "model", "undefined", "words"),
    [
        (replace(START, recall=0.0), PERFECT, {"forgetting", "robustness"}, "recalls nothing"),
        (replace(START, utility=0.0), PERFECT, {"utility"}, "has no utility"),
        (replace(START, neighbor_correct=0.0), PERFECT, {"boundary"}, "answers no neighbour"),
        (replace(START, refused=1.0), PERFECT, {"boundary"}, "answers no neighbour"),
        (START, replace(PERFECT, attacked_recall=()), {"robustness"}, "no attack was measured"),
        (START, replace(PERFECT, utility=math.nan), {"utility"}, "is missing"),
        (START, replace(PERFECT, attacked_recall=(0.0, math.nan)), {"robustness"}, "is missing"),
        (replace(START, recall=math.nan), PERFECT, {"forgetting", "robustness"}, "is missing"),
    ],
)
def test_what_is_undefined_is_nan_with_a_note(
    start: Measured, model: Measured, undefined: set[str], words: str
) -> None:
    found = balance(start, model)
    names = ("forgetting", "utility", "boundary", "robustness")
    assert {name for name in names if math.isnan(getattr(found, name))} == undefined
    assert math.isnan(found.score)
    assert [note.split(" ")[0] for note in found.notes] == [n for n in names if n in undefined]
    assert all(words in note for note in found.notes)


@pytest.mark.parametrize(
    "wrong", [{"recall": 45.0}, {"utility": -0.1}, {"refused": 1.1}, {"attacked_recall": (2.0,)}]
)
def test_percent_and_negative_numbers(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give shares, not percent"):
        balance(START, replace(PERFECT, **wrong))  # type: ignore[arg-type]
