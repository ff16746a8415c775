"""Properties of every metric: splits, ranks, reset, pickling, dtypes, forward, plot, doctests."""

from __future__ import annotations

import doctest
import pickle
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot
from torch import Tensor
from torchmetrics import Metric

import lit_unlearn
from lit_unlearn import metrics
from lit_unlearn.metrics.row_metric import RowMetric
from tests.processes import FORKED, in_processes
from tests.unit.metrics.cases import CASES, Case

EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
MODULES = [f"lit_unlearn.metrics.{found.name}" for found in pkgutil.iter_modules(metrics.__path__)]


def same(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


def add(metric: Metric, case: Case, rows: Sequence[Any]) -> None:
    for part in case.updates(rows):
        metric.update(*case.arguments(part))


@EACH
def test_the_split_into_updates_changes_nothing(case: Case) -> None:
    whole = case.fed(case.rows).compute()
    assert whole.isfinite().any()
    for parts in ([[row] for row in case.rows], [case.rows[:2], case.rows[2:]]):
        assert same(case.fed(*parts).compute(), whole)
        assert same(case.fed(*parts[::-1]).compute(), whole)


@EACH
def test_reset_forgets(case: Case) -> None:
    metric = case.fed(case.rows)
    metric.reset()
    add(metric, case, case.rows[2:])
    assert same(metric.compute(), case.fed(case.rows[2:]).compute())


@EACH
def test_pickling_keeps_the_rows(case: Case) -> None:
    metric = pickle.loads(pickle.dumps(case.fed(case.rows[:2])))
    add(metric, case, case.rows[2:])
    assert same(metric.compute(), case.fed(case.rows).compute())


@EACH
def test_forward_is_the_batch_and_compute_everything(case: Case) -> None:
    metric = case.make()
    for part in (*case.updates(case.rows[:2]), *case.updates(case.rows[2:])):
        assert same(metric(*case.arguments(part)), case.fed(part).compute())
    assert same(metric.compute(), case.fed(case.rows).compute())


@EACH
def test_merged_states_are_those_of_one_metric(case: Case) -> None:
    metric = case.fed(case.rows[2:])
    metric.merge_state(case.fed(case.rows[:2]))
    assert same(metric.compute(), case.fed(case.rows).compute())


@EACH
def test_a_model_in_bfloat16_leaves_float32(case: Case) -> None:
    """Lightning's `bf16-true` converts every module with `.to`."""
    metric = case.make().to(torch.bfloat16)
    add(metric, case, case.rows)
    found = metric.compute()
    assert found.dtype == torch.float32
    assert same(found, case.fed(case.rows).compute())
    wide = case.make().set_dtype(torch.float64)
    add(wide, case, case.rows)
    assert wide.compute().dtype == torch.float64
    torch.testing.assert_close(wide.compute().float(), found, equal_nan=True)


def test_a_metric_that_is_made_while_the_default_is_bfloat16() -> None:
    """Lightning sets the default while it makes a model for `bf16-true`."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        metric = CASES["AnswerNLL"].make()
    finally:
        torch.set_default_dtype(before)
    assert metric.dtype == torch.float32


@EACH
def test_plot_draws_one_value_and_several(case: Case) -> None:
    with mpl.rc_context({"backend": "agg"}):
        metric, (figure, axes) = case.fed(case.rows), pyplot.subplots()
        metric.plot(ax=axes)
        assert axes.lines or axes.images
        again, curves = metric.plot([metric.compute(), metric.compute()])
        assert isinstance(again, pyplot.Figure)
        assert curves.lines
        assert again is not figure
        pyplot.close("all")


def _of_a_rank() -> dict[str, tuple[Tensor, Tensor]]:
    """Every metric on this rank's rows, and with all rows on the last rank."""
    rank = torch.distributed.get_rank()
    found = {}
    for name, case in CASES.items():
        own = case.fed(case.rows[:2] if rank else case.rows[2:])
        last = case.fed(*([case.rows] if rank else []))
        last._update_count += 1  # a rank without rows is no mistake: spare the warning
        found[name] = own.compute(), last.compute()
    return found


@FORKED
def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    wanted = {name: case.fed(case.rows).compute() for name, case in CASES.items()}
    for found in in_processes(2, _of_a_rank, tmp_path):
        for name, whole in wanted.items():
            assert same(found[name][0], whole), name
            assert same(found[name][1], whole), name


@pytest.mark.parametrize("module", MODULES)
def test_doctests(module: str) -> None:
    if module.rsplit(".", 1)[1] not in ("functional", "row_metric"):
        result = doctest.testmod(import_module(module))
        assert result.attempted
        assert not result.failed


def test_every_public_metric_has_a_case() -> None:
    places = lit_unlearn._modules().items()
    own = [getattr(lit_unlearn, name) for name, module in places if module in MODULES]
    public = {each for each in own if issubclass(each, Metric)}
    assert len(public) == len(own) > 10
    assert public == {type(case.make()) for case in CASES.values()}
    assert all(issubclass(each, RowMetric) for each in public)
