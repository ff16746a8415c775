"""Mixing is arithmetic: no tokenizer, no model."""

from __future__ import annotations

from collections import Counter

import pytest

from lit_unlearn.data.mixing import Draw, StepPlan, epoch_order, rows_per_step, shares
from lit_unlearn.errors import InputError

SIZES = {"forget": 7, "retain": 20}
PER_STEP = {"forget": 2, "retain": 3}


def test_stratified_counts_every_step() -> None:
    plan = StepPlan(SIZES, PER_STEP, seed=1)
    for step in range(30):
        assert {n: len(rows) for n, rows in plan.step(step).items()} == PER_STEP


def test_every_row_once_per_epoch() -> None:
    """7 steps of 2 rows are two epochs of 7 rows."""
    plan = StepPlan(SIZES, PER_STEP, seed=1)
    drawn = Counter(row for step in range(7) for row in plan.step(step)["forget"])
    assert drawn == Counter(Draw(i, visit) for i in range(7) for visit in range(2))


def test_resuming_gives_the_same_steps() -> None:
    plan, again = StepPlan(SIZES, PER_STEP, seed=5), StepPlan(SIZES, PER_STEP, seed=5)
    unbroken = plan.steps(0)
    first = [next(unbroken) for _ in range(20)]
    resumed = again.steps(13)
    assert [next(resumed) for _ in range(7)] == first[13:]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_share_out_the_same_global_step(world: int) -> None:
    whole = StepPlan(SIZES, PER_STEP, seed=2)
    parts = [StepPlan(SIZES, PER_STEP, seed=2, rank=r, world=world) for r in range(world)]
    for step in range(10):
        for name in SIZES:
            rows = [row for part in parts for row in part.step(step)[name]]
            assert sorted(rows, key=str) == sorted(whole.step(step)[name], key=str)


def test_seed_and_epoch_change_the_order() -> None:
    assert epoch_order(50, 0, "a", 0) != epoch_order(50, 0, "a", 1)
    assert epoch_order(50, 0, "a", 0) != epoch_order(50, 1, "a", 0)
    assert epoch_order(50, 0, "a", 0) != epoch_order(50, 0, "b", 0)


def test_fractions_are_exact_in_the_long_run() -> None:
    plan = StepPlan({"rare": 5}, {"rare": 0.3})
    assert sum(len(plan.step(s)["rare"]) for s in range(100)) == 30


def test_shares_worked_values() -> None:
    """Sizes 100 and 400: proportional 1/5 and 4/5; temperature 2 gives 10 : 20 = 1/3 and 2/3."""
    sizes = {"a": 100, "b": 400}
    assert shares(sizes, "proportional") == pytest.approx({"a": 0.2, "b": 0.8})
    assert shares(sizes, "temperature", 2.0) == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert rows_per_step(sizes, "temperature", {}, 12, 2.0) == pytest.approx({"a": 4, "b": 8})


def test_epochs() -> None:
    assert StepPlan(SIZES, PER_STEP).epochs(7) == {"forget": 2.0, "retain": 1.05}


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"'forget'.*0 rows and 2 rows per step"):
        StepPlan({"forget": 0}, {"forget": 2})
    with pytest.raises(InputError, match="batch_size"):
        rows_per_step(SIZES, "temperature", {}, 0, 1.0)
