"""What suites share: probes, their outcomes, and means with intervals."""

from __future__ import annotations

import math

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Generation, Outcome, Row
from lit_unlearn.evaluation.suites.common import (
    mean_figure,
    mean_of_values,
    probe_of,
    subject_outcomes,
)
from lit_unlearn.metrics.functional.statistics import bootstrap_mean, clopper_pearson
from lit_unlearn.types import Example, Turn

ROW = Example("set/1", (Turn("user", "Who wrote it?"),), "Victor Hugo wrote it.", "question_answer")


def scored(row_id: str, value: float, asked_of: str = "") -> Row:
    return Row(row_id, "g", {"s": value}, asked_of=asked_of)


def test_the_id_of_a_probe() -> None:
    assert probe_of(ROW, "g").probe_id == "g/set/1"
    assert probe_of(ROW, "g", part="0").probe_id == "g/set/1/0"


def test_replies_of_one_row_are_averaged_first() -> None:
    """Rows a: 1, 0 -> 1/2 and b: 1 -> 1; their mean is 3/4 over two rows, not 2/3 over three."""
    rows = [scored("a/0", 1.0, "a"), scored("a/1", 0.0, "a"), scored("b", 1.0)]
    figure = mean_figure("g/s", rows)
    ends = bootstrap_mean([0.5, 1.0])
    assert (figure.value, figure.count) == (0.75, 2)
    assert (figure.low, figure.high) == (ends.low, ends.high)


def test_yes_and_no_get_an_exact_interval() -> None:
    values = {"a": [1.0], "b": [0.0], "c": [math.nan], "d": [0.0]}
    figure = mean_of_values("g/s", values)
    ends = clopper_pearson(1, 3)
    assert (figure.value, figure.count) == (pytest.approx(1 / 3), 3)
    assert (figure.low, figure.high) == (ends.low, ends.high)


def test_no_row_gives_nan_and_says_so() -> None:
    figure = mean_figure("g/s", [scored("a", math.nan), Row("b", "g", {})], note="about it")
    assert math.isnan(figure.value)
    assert figure.count == 0
    assert figure.note == "about it; no row on which this is defined"


@pytest.mark.parametrize("outcomes", [{}, {"": [Outcome("other")]}, {"int4": [Outcome("g/set/1")]}])
def test_outcomes_of_other_probes_are_refused(outcomes: dict[str, list[Outcome]]) -> None:
    with pytest.raises(InputError, match=r"`outcomes` should hold, under the name ''"):
        subject_outcomes([probe_of(ROW, "g", Generation())], outcomes)
