"""Statistics of tokens: worked values; padded and packed positions are the same positions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional import tokens
from lit_unlearn.metrics.functional.tokens import IGNORED, answer_positions, token_statistics


def test_positions_by_hand() -> None:
    """Two rows: of the first, positions 1 and 2 count; of the second, position 0."""
    preds = torch.arange(24.0).reshape(2, 3, 4)
    target = torch.tensor([[IGNORED, 3, 1], [2, IGNORED, IGNORED]])
    logits, labels, rows = answer_positions(preds, target)
    assert logits[:, 0].tolist() == [4, 8, 12]
    assert (labels.tolist(), rows.tolist()) == ([3, 1, 2], [0, 0, 1])
    mixed = torch.tensor([3, 1, 2])
    packed = answer_positions(preds.flatten(0, 1)[mixed], torch.tensor([2, 3, 1]), mixed // 3)
    assert all(map(torch.equal, packed, (logits, labels, rows)))


@pytest.mark.parametrize(
    ("preds", "target", "rows"),
    [
        ((2, 3, 5), (2, 4), None),
        ((6, 5), (6,), None),
        ((6, 5), (6,), (5,)),
        ((2, 3, 5), (2, 3), (2, 3)),
    ],
)
def test_shapes_that_do_not_fit(
    preds: tuple[int, ...], target: tuple[int, ...], rows: tuple[int, ...] | None
) -> None:
    packed = None if rows is None else torch.zeros(rows, dtype=torch.long)
    with pytest.raises(InputError, match=r"`preds` and `target` should have shapes"):
        answer_positions(torch.ones(preds), torch.zeros(target, dtype=torch.long), packed)


@pytest.mark.parametrize("label", [5, -1])
def test_labels_beyond_the_vocabulary(label: int) -> None:
    with pytest.raises(InputError, match=r"token ids from 0 to 4, or -100"):
        answer_positions(torch.ones(1, 2, 5), torch.tensor([[0, label]]))


def test_statistics_worked() -> None:
    """p = (1/2, 1/4, 1/4): E[log p] = -1.5 ln 2; log p is half a ln 2 off it everywhere.

    Target 1 is not the most probable one, target 0 is.
    """
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(2, 3) + torch.tensor([[7.0], [-9.0]])
    found = token_statistics(logits, torch.tensor([1, 0]))
    two = math.log(2)
    wanted = [[-2 * two, -two], [0, 1], [-1.5 * two] * 2, [0.5 * two] * 2]
    assert_close(found, torch.tensor(wanted))


def test_statistics_are_finite_where_the_probability_is_0() -> None:
    """Certain of one token: mean and deviation 0, also beside minus infinity and in bfloat16."""
    logits = torch.tensor([[0.0, -torch.inf, -1e4], [5.0, -torch.inf, -torch.inf]])
    for dtype in (torch.float32, torch.bfloat16):
        found = token_statistics(logits.to(dtype), torch.tensor([0, 0]))
        assert found.dtype == torch.float32
        assert_close(found, torch.tensor([[0.0, 0], [1, 1], [0, 0], [0, 0]]))


def test_statistics_of_bfloat16_logits_are_exact() -> None:
    """The logits as they are, the work in float32; in bfloat16 the error would be about 0.01."""
    logits, targets = torch.randn(5, 300).bfloat16(), torch.arange(5)
    found = token_statistics(logits, targets)
    assert_close(found, token_statistics(logits.double(), targets), rtol=0, atol=1e-5)


def test_statistics_of_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = torch.randn(7, 11), torch.arange(7)
    whole = token_statistics(logits, targets)
    monkeypatch.setattr(tokens, "_AT_ONCE", 25)  # two positions of eleven
    assert_close(token_statistics(logits, targets), whole, rtol=0, atol=0)
