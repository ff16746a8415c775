"""Tests of `lit_unlearn.evaluation.suites.recovery`."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Forced, Generation, Outcome, Probe
from lit_unlearn.evaluation.suites.common import probe_of
from lit_unlearn.evaluation.suites.recovery import (
    UNATTACKED,
    attack_result,
    by_variant,
    split_rows,
)
from lit_unlearn.types import Example, Turn


def example(number: int, accepted: tuple[str, ...] = ()) -> Example:
    turns = (Turn("user", f"Question {number}?"),)
    return Example(f"set/{number}", turns, "red green blue white", "question_answer", accepted)


def outcome(probe: Probe, reply: str, *log_probs: float) -> Outcome:
    flat = (False,) * len(log_probs)
    forced = Forced(log_probs, flat, log_probs, log_probs)
    return Outcome(probe.probe_id, {"answer": forced} if log_probs else {}, (reply,))


ROWS = [example(1), example(2, accepted=("green",))]
PROBES = [probe_of(row, UNATTACKED, Generation(8), {"answer": row.answer}) for row in ROWS]


def test_figures_worked() -> None:
    """Row 1 by ROUGE-L, row 2 by its accepted answer "green".

    Un-attacked: 1 of 4 words, and a refusal without it: mean (1/4 + 0) / 2; NLL (2 + 4) / 2 = 3 and
    1. Attacked: 3 of 4 words, and the answer: (3/4 + 1) / 2; gains 1/2 and 1, mean 3/4.
    """
    before = [outcome(PROBES[0], "red", -2.0, -4.0), outcome(PROBES[1], "Sorry, no.", -1.0)]
    after = [outcome(PROBES[0], "red green blue", -1.0), outcome(PROBES[1], "It is Green.", -2.0)]
    found = by_variant(PROBES, {"": before, "int4": after})
    result = attack_result(found, {"int4": "beware"})
    figures = {figure.name: figure for figure in result.figures}
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(
        {
            "unattacked/recall": 1 / 8,
            "unattacked/refused": 1 / 2,
            "unattacked/answer_nll": 2.0,
            "int4/recall": 7 / 8,
            "int4/refused": 0.0,
            "int4/answer_nll": 1.5,
            "int4/recall_gain": 3 / 4,
        }
    )
    gain = figures["int4/recall_gain"]
    assert (gain.low, gain.high) == pytest.approx((1 / 2, 1.0))
    assert "beware" in gain.note
    assert "beware" not in figures["unattacked/recall"].note
    assert [row.row_id for row in result.rows] == [
        "unattacked/set/1",
        "unattacked/set/2",
        "int4/set/1",
        "int4/set/2",
    ]


def test_likelihood_is_left_out_where_it_was_not_asked_for() -> None:
    pairs = [(probe, outcome(probe, "red")) for probe in PROBES]
    names = [figure.name for figure in attack_result({UNATTACKED: pairs}, {}).figures]
    assert names == ["unattacked/recall", "unattacked/refused"]


def test_the_order_of_the_rows_changes_no_figure() -> None:
    before = [(p, outcome(p, "red", -1.0)) for p in PROBES]
    after = [(p, outcome(p, "green blue", -2.0)) for p in PROBES]
    found = attack_result({UNATTACKED: before, "x": after}, {}).figures
    turned = attack_result({UNATTACKED: before[::-1], "x": after[::-1]}, {}).figures
    assert turned == found


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.5, 5), (0.74, 7), (0.99, 9)])
def test_a_split_gives_every_row_to_one_side(share: float, count: int) -> None:
    rows = [example(number) for number in range(10)]
    mine, others = split_rows(rows, share, seed=0)
    assert len(mine) == count
    assert sorted(row.example_id for row in [*mine, *others]) == [r.example_id for r in rows]
    assert mine == [row for row in rows if row in mine]
    assert (mine, others) == split_rows(rows, share, seed=0)


def test_the_seed_decides_the_split() -> None:
    rows = [example(number) for number in range(10)]
    assert split_rows(rows, 0.5, seed=0) != split_rows(rows, 0.5, seed=1)


@pytest.mark.parametrize(("share", "count"), [(0.0, 5), (1.0, 5), (0.5, 1), (math.nan, 5)])
def test_shares_that_leave_a_side_empty(share: float, count: int) -> None:
    with pytest.raises(InputError, match=r"`attack_share` should be above 0 and below 1"):
        split_rows([example(number) for number in range(count)], share, seed=0)


def test_outcomes_of_other_probes() -> None:
    with pytest.raises(InputError, match="one outcome for each of the 2 probes"):
        by_variant(PROBES, {"": [replace(outcome(PROBES[0], "x"), probe_id="other")]})
