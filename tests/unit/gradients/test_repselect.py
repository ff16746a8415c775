"""RepSelect's filter: worked values, the authors' two steps, and the combination that uses it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.combination import RepSelect, collapsed


def matrix(rows: int, columns: int, rank: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(rows * columns)
    rank = rank or min(rows, columns)
    left = torch.randn(rows, rank, generator=generator)
    return left @ torch.randn(rank, columns, generator=generator)


def test_worked_values() -> None:
    """Singular values 4, 2 and 1, two of them collapsed: 2 * 2 / 4 = 1, 2 * 2 / 2 = 2."""
    gradient = torch.diag(torch.tensor([1.0, 4, -2]))
    assert_close(collapsed(gradient, 2).diag(), torch.tensor([1.0, 1, -2]))
    assert_close(collapsed(gradient, 1), gradient)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_is_a_collapse_of_inputs_and_then_of_outputs(shape: tuple[int, int]) -> None:
    """The components on the 3 main right vectors are divided by s_i / s, then those on the left."""
    gradient = matrix(*shape)
    u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
    shares, right, left = 1 - s[2] / s[:3], vh[:3].mT, u[:, :3]
    expected = gradient - (gradient @ right * shares) @ right.mT
    expected = expected - left @ (shares[:, None] * (left.mT @ expected))
    assert_close(collapsed(gradient, 3), expected, rtol=1e-4, atol=1e-5)


def test_low_rank_and_zero() -> None:
    """Two of ten components are there, so these are collapsed; a zero gradient stays zero."""
    gradient = matrix(6, 8, rank=2)
    s = torch.linalg.svdvals(gradient)
    found = torch.linalg.svdvals(collapsed(gradient, 10))
    assert_close(found[:2], torch.stack([s[1], s[1] ** 2 / s[0]]), rtol=1e-3, atol=1e-4)
    assert collapsed(torch.zeros(3, 2), 2).eq(0).all()
    assert collapsed(gradient.bfloat16(), 1).dtype == torch.bfloat16


def test_the_combination_filters_the_forget_side_alone() -> None:
    rule = RepSelect(components=2)
    rule.bind(("forget", "retain"))
    weights = torch.tensor([2.0, 3.0], dtype=torch.float64)
    forget, retain = matrix(4, 3), matrix(4, 3) + 1
    vector = torch.tensor([1.0, -2.0])
    update = rule([[forget, vector, None], [retain, None, vector]], weights)
    assert update[0] is not None
    assert_close(update[0], collapsed(2 * forget, 2) + 3 * retain)
    assert update[1] is not None
    assert update[1].tolist() == [2, -4]
    assert update[2] is not None
    assert update[2].tolist() == [3, -6]
    alone = RepSelect(components=2)
    alone.bind(("forget",))
    (only,) = alone([[forget]], weights[:1])
    assert_close(only, collapsed(2 * forget, 2))
    (kept,) = rule([[None], [retain]], weights)
    assert_close(kept, 3 * retain)
    with pytest.raises(InputError, match=r"`RepSelect.forget` should name.*Found: froget"):
        RepSelect(forget=("froget",)).bind(("forget", "retain"))
