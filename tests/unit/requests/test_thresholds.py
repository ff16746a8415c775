"""Thresholds: what meets a bound, what does not, and what was not measured."""

from __future__ import annotations

import math

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.requests.thresholds import Threshold, checks, verdict_of


def record(value: float, low: float | None = None, high: float | None = None) -> EvaluationRecord:
    figure = Figure("unattacked/recall", value, "", 20, low, high)
    suite = SuiteRecord("prefill", {}, 0.0, 0.0, [], [figure])
    balance = [Figure("part/boundary", 0.9, "", 20)]
    return EvaluationRecord("m", "f", {"prefill": suite}, balance=balance)


RECALL = "prefill/unattacked/recall"


def test_a_bound_holds_at_its_value_and_not_beyond() -> None:
    start = record(0.8)
    bounds = [Threshold(RECALL, at_most=0.1), Threshold(RECALL, at_least=0.1)]
    assert [check.met for check in checks(bounds, record(0.1), start)] == [True, True]
    assert [check.met for check in checks(bounds, record(0.11), start)] == [False, True]
    assert [check.met for check in checks(bounds, record(0.09), start)] == [True, False]


def test_a_share_of_the_start_depends_on_the_start() -> None:
    """.3 of .8 is .24: .2 meets it; the interval up to .4 does not."""
    bound = Threshold(RECALL, at_most=0.3, of_start=True)
    (check,) = checks([bound], record(0.2, 0.1, 0.4), record(0.8))
    assert (check.start, check.value, check.count, check.outcome) == (0.8, 0.2, 20, "met")
    assert not check.is_certain
    assert check.bound == "at most 0.3 of the start"
    assert not checks([bound], record(0.25), record(0.8))[0].met
    assert checks([bound], record(0.2, 0.1, 0.23), record(0.8))[0].is_certain


def test_what_was_not_measured_is_never_met() -> None:
    share = Threshold(RECALL, at_least=0.0, of_start=True)
    for bound, model, start in [
        (Threshold("depth/forget/lens", at_most=1.0), record(0.0), record(0.0)),
        (Threshold(RECALL, at_most=1.0), record(math.nan), record(0.5)),
        (share, record(0.5), record(0.0)),
        (share, record(0.5), None),
    ]:
        (check,) = checks([bound], model, start)
        assert (check.outcome, check.met) == ("not measured", False)
        assert verdict_of([check]) == "not met"


def test_of_nothing_nothing_may_be_left() -> None:
    bound = Threshold(RECALL, at_most=0.5, of_start=True)
    (none,), (some,) = (checks([bound], record(value), record(0.0)) for value in (0.0, 0.1))
    assert (none.value, none.outcome) == (0.0, "met")
    assert (some.value, some.outcome) == (0.1, "not met")


def test_parts_of_the_balanced_score_are_figures() -> None:
    (check,) = checks([Threshold("balance/part/boundary", at_least=0.8)], record(0.0), None)
    assert (check.value, check.outcome) == (0.9, "met")


def test_one_bound_that_is_not_met_decides() -> None:
    both = [Threshold(RECALL, at_most=0.5), Threshold(RECALL, at_most=0.1)]
    assert verdict_of(checks(both, record(0.3), None)) == "not met"
    assert verdict_of(checks(both, record(0.1), None)) == "met"
    assert verdict_of([]) == "not met"


@pytest.mark.parametrize("given", [{}, {"at_most": 1, "at_least": 0}, {"at_most": math.nan}])
def test_a_threshold_has_one_number(given: dict[str, float]) -> None:
    with pytest.raises(InputError, match="one number"):
        Threshold(RECALL, **given)


def test_a_figure_is_named_with_its_suite() -> None:
    with pytest.raises(InputError, match="a suite and a figure"):
        Threshold("recall", at_most=0.1)
