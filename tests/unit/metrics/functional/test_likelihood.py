"""Figures of teacher-forced answers: worked values and the corners of their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.likelihood import (
    answer_probability,
    closeness_to_one,
    exact_memorisation,
    extraction_strength,
    mean_nll_per_row,
    model_utility,
    probability_with_options,
    softmax,
    truth_margin,
    truth_ratio,
    truth_share,
)

LN2 = math.log(2)


def test_answer_probability_by_hand() -> None:
    """Tokens of probability 1/2 and 1/8: the square root of 1/16."""
    assert answer_probability([-LN2, -3 * LN2]) == pytest.approx(1 / 4)
    assert answer_probability([0.0, 0.0]) == 1
    assert math.isnan(answer_probability([]))


def test_probability_with_options_by_hand() -> None:
    """1/2 against 1/4 and 1/4: a half."""
    assert probability_with_options(-LN2, [-2 * LN2, -2 * LN2]) == pytest.approx(1 / 2)


def test_probability_with_options_of_hopeless_answers() -> None:
    """e^-2000 is 0 as a float; the shares are not: 1 / (1 + e^-1 + e^-2)."""
    expected = 1 / (1 + math.exp(-1) + math.exp(-2))
    assert probability_with_options(-2000, [-2001, -2002]) == pytest.approx(expected)
    assert probability_with_options(0, [-2000]) == 1


def test_softmax_adds_up() -> None:
    assert math.fsum(softmax([3.0, -800.0, 2.5])) == pytest.approx(1)
    with pytest.raises(InputError, match=r"`scores`"):
        softmax([])


def test_truth_ratio_takes_the_geometric_mean() -> None:
    """Wrong 1/2 and 1/8 (geometric 1/4, arithmetic 5/16), right 1/2: x = 1/2."""
    ratio = truth_ratio(-LN2, [-LN2, -3 * LN2])
    assert ratio == pytest.approx(1 / 2)
    assert closeness_to_one(ratio) == pytest.approx(1 / 2)
    assert truth_margin(ratio) == pytest.approx(1 / 2)
    assert truth_share(ratio) == pytest.approx(2 / 3)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 7.0])
def test_aggregates_of_a_ratio_and_its_inverse(ratio: float) -> None:
    assert closeness_to_one(ratio) == pytest.approx(closeness_to_one(1 / ratio))
    assert truth_share(ratio) + truth_share(1 / ratio) == pytest.approx(1)
    assert truth_margin(ratio) * truth_margin(1 / ratio) == 0


def test_truth_ratio_beyond_the_range_of_floats() -> None:
    tiny, huge = truth_ratio(0, [-2000]), truth_ratio(-2000, [0])
    assert (tiny, huge) == (0, math.inf)
    assert (closeness_to_one(tiny), closeness_to_one(huge)) == (0, 0)
    assert (truth_margin(tiny), truth_margin(huge)) == (1, 0)
    assert (truth_share(tiny), truth_share(huge)) == (1, 0)


def test_truth_ratio_without_wrong_answers_is_undefined() -> None:
    ratio = truth_ratio(-1, [])
    aggregates = (closeness_to_one(ratio), truth_margin(ratio), truth_share(ratio))
    assert all(math.isnan(value) for value in (ratio, *aggregates))


# ------------------------------------------------------------------------------------ memorisation


@pytest.mark.parametrize(
    ("hits", "dropped", "counted"),
    [
        ("1111", 1, 1),
        ("1110", 1, 0),  # only the end of turn is missed
        ("0111", 2 / 3, 3 / 4),
        ("1011", 1 / 3, 2 / 4),
        ("1101", 0, 1 / 4),  # the last word is missed: nothing is extracted
        ("0000", 0, 0),
    ],
)
def test_extraction_strength_by_hand(hits: str, dropped: float, counted: float) -> None:
    """1 - k / T with k tokens to be given; T is 3 without the end-of-turn token, 4 with it."""
    given = [hit == "1" for hit in hits]
    assert extraction_strength(given) == pytest.approx(dropped)
    assert extraction_strength(given, end_of_turn=True) == pytest.approx(counted)


def test_extraction_strength_by_trying_every_prefix() -> None:
    for number in range(1, 2**6):
        hits = [bool(number >> i & 1) for i in range(6)]
        k = min(k for k in range(6) if all(hits[k:5]))
        assert extraction_strength(hits) == pytest.approx(1 - k / 5)


def test_exact_memorisation_by_hand() -> None:
    """Hits 1, 0, 1 and a missed end of turn: 2/3, or 2/4 with it."""
    hits = [True, False, True, False]
    assert exact_memorisation(hits) == pytest.approx(2 / 3)
    assert exact_memorisation(hits, end_of_turn=True) == pytest.approx(2 / 4)
    assert extraction_strength(hits) <= exact_memorisation(hits)


def test_memorisation_of_nothing_is_undefined() -> None:
    assert math.isnan(extraction_strength([True]))
    assert math.isnan(exact_memorisation([]))


# ----------------------------------------------------------------------------------- model utility


def test_model_utility_by_hand() -> None:
    """Eight times 1 and once 1/2: 9 / (8 + 2) = 0.9."""
    assert model_utility([1.0] * 8 + [0.5]) == pytest.approx(0.9)
    assert model_utility([1.0] * 8 + [0.0]) == 0
    with pytest.raises(InputError, match=r"nine means.*Found 8"):
        model_utility([1.0] * 8)


# ------------------------------------------------------------------------------------ loss per row


def test_mean_nll_worked_by_hand() -> None:
    """Row 0 has probabilities 1/2 and 1/8: (ln 2 + ln 8) / 2 = 2 ln 2; row 2 has 1/4: 2 ln 2.

    Row 1 has no token: NaN.
    """
    log_probs = torch.tensor([0.5, 0.25, 0.125]).log()
    found = mean_nll_per_row(log_probs, torch.tensor([0, 2, 0]), 3)
    assert found[[0, 2]].tolist() == pytest.approx([2 * math.log(2)] * 2)
    assert math.isnan(found[1])


def test_mean_nll_row_order_changes_nothing_and_bf16_is_summed_in_fp32() -> None:
    log_probs = -torch.rand(200)
    rows = torch.randint(4, (200,))
    wanted = mean_nll_per_row(log_probs, rows, 4)
    order = torch.randperm(200)
    torch.testing.assert_close(mean_nll_per_row(log_probs[order], rows[order], 4), wanted)
    assert mean_nll_per_row(log_probs.bfloat16(), rows, 4).dtype == torch.float32
    assert mean_nll_per_row(log_probs.double(), rows, 4).dtype == torch.float64


def test_mean_nll_of_nothing() -> None:
    assert mean_nll_per_row(torch.empty(0), torch.empty(0, dtype=torch.int64), 2).isnan().all()


@pytest.mark.parametrize(
    ("log_probs", "rows", "message"),
    [
        (torch.zeros(2), torch.zeros(3, dtype=torch.int64), "vectors of one length"),
        (torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), "vectors of one length"),
        (torch.zeros(2), torch.tensor([0, 2]), "from 0 to 1. Found 0 to 2"),
    ],
)
def test_mean_nll_bad_shapes(log_probs: torch.Tensor, rows: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_nll_per_row(log_probs, rows, 2)
