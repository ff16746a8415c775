"""Tests of `lit_unlearn.metrics.accumulators`."""

from __future__ import annotations

import pytest
import torch

from lit_unlearn.metrics.accumulators import MeanScore


def test_unequal_batches_give_the_mean_over_rows() -> None:
    """(1 + 0 + 1) / 3 over batches of 1 and 2 rows; a mean of means would be 3/4."""
    metric = MeanScore()
    metric.update(torch.tensor([1.0]))
    metric.update(torch.tensor([0.0, 1.0]))
    assert metric.compute().item() == pytest.approx(2 / 3)


def test_weights() -> None:
    """(3 * 1 + 1 * 5) / 4 = 2; the row of weight 0 is left out, NaN as it is."""
    metric = MeanScore()
    metric.update(torch.tensor([1.0, 5.0, torch.nan]), torch.tensor([3, 1, 0]))
    assert metric.compute().item() == pytest.approx(2.0)


def test_states_of_two_ranks_add_up() -> None:
    """Reduction over ranks sums the two states, which gives the mean over all rows."""
    ranks = [MeanScore(), MeanScore()]
    ranks[0].update(torch.tensor([1.0, 1.0, 1.0]))
    ranks[1].update(torch.tensor([0.0]))
    ranks[0].merge_state(ranks[1])
    assert ranks[0].compute().item() == pytest.approx(0.75)


def test_nothing_measured_is_nan_not_zero() -> None:
    metric = MeanScore()
    metric.update(torch.empty(0))
    assert metric.compute().isnan()


def test_a_nan_score_is_not_hidden() -> None:
    metric = MeanScore()
    metric.update(torch.tensor([1.0, torch.nan]))
    assert metric.compute().isnan()


def test_reset_and_no_state_in_checkpoints() -> None:
    metric = MeanScore()
    metric.update(torch.tensor([True, False]))
    assert metric.compute().item() == 0.5
    metric.reset()
    metric.update(torch.tensor([1]))
    assert metric.compute().item() == 1.0
    assert metric.state_dict() == {}


def test_graph_is_not_kept() -> None:
    metric = MeanScore()
    metric.update(torch.ones(2, requires_grad=True))
    assert not metric.compute().requires_grad


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(3), r"shape of values \(2,\), found \(3,\)"),
        (torch.tensor([1.0, -2.0]), "none below 0, found -2.0"),
    ],
)
def test_bad_weights(weights: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeanScore().update(torch.ones(2), weights)
