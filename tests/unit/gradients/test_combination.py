"""SAGO over any number of objectives: sides, weights, and what it never does."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.gradients.combination import SAGO, Combination, check_alone, sign_agreement
from lit_unlearn.gradients.weighting import Fixed, PCGrad
from tests.inputs import JACOBIANS

NAMES = ("forget", "retain", "neighbor")


def bound(combination: Combination, names: tuple[str, ...] = NAMES) -> Combination:
    combination.bind(names)
    return combination


def gradients(*rows: list[float]) -> list[Gradient]:
    return [[torch.tensor(row)] for row in rows]


def ones(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.float64)


def test_worked_value() -> None:
    """Weights 2, 1 and 3: g_f = (2, -2, 4), g_r = (1, 4, -3) + 3 (1, -1, 0) = (4, 1, -3).

    Signs: the same, so 2; opposite, so 1; opposite, so -3. With `sum` the first is 2 + 4.
    """
    rows = gradients([1, -1, 2], [1, 4, -3], [1, -1, 0])
    weights = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64)
    (update,) = bound(SAGO())(rows, weights)
    assert update.tolist() == [2, 1, -3]
    (update,) = bound(SAGO(agreed="sum"))(rows, weights)
    assert update.tolist() == [6, 1, -3]


def test_several_objectives_on_the_forget_side() -> None:
    rows = gradients([1, 1], [-3, 2], [2, -2])
    (update,) = bound(SAGO(forget=("forget", "neighbor")))(rows, ones(3))
    (expected,) = sign_agreement([torch.tensor([3.0, -1.0])], [torch.tensor([-3.0, 2.0])])
    assert torch.equal(update, expected)


@pytest.mark.parametrize("name", [n for n, rows in JACOBIANS.items() if len(rows) >= 2])
@pytest.mark.parametrize("agreed", ["forget", "sum"])
def test_properties(name: str, agreed: str) -> None:
    """Finite, never against the retain side, the same in another order, and inputs untouched."""
    rows = JACOBIANS[name]
    names = tuple(f"objective_{i}" for i in range(len(rows)))
    sago = bound(SAGO((names[0],), agreed), names)  # type: ignore[arg-type]
    weights = torch.linspace(0.5, 2, len(rows), dtype=torch.float64)
    given: list[Gradient] = [[row.clone()] for row in rows]
    (update,) = sago(given, weights)
    assert update.isfinite().all()
    retain = (weights[1:, None] * rows[1:]).sum(0)
    assert update @ retain >= -1e-12 * update.norm() * retain.norm()
    assert all(torch.equal(row, one) for (row,), one in zip(given, rows, strict=True))
    order = list(reversed(range(len(rows))))
    other = bound(SAGO((names[0],), agreed), tuple(names[i] for i in order))  # type: ignore[arg-type]
    (same,) = other([given[i] for i in order], weights[order])
    elements = update.abs().max().clamp(min=1e-300)
    assert_close(same / elements, update / elements, rtol=0, atol=1e-9)


def test_a_side_without_rows_or_weight_leaves_the_other() -> None:
    none: Gradient = [None, None]
    kept: Gradient = [torch.tensor([1.0, -2.0]), None]
    for absent in ("no rows", "weight 0"):
        forget = none if absent == "no rows" else [torch.tensor([5.0, 5.0]), None]
        weights = torch.tensor([float(absent == "no rows"), 3.0, 1.0], dtype=torch.float64)
        update = bound(SAGO())([forget, kept, none], weights)
        assert update[0] is not None
        assert update[0].tolist() == [3, -6]
        assert update[1] is None
    assert bound(SAGO())([none, none, none], ones(3)) == [None, None]
    alone = bound(SAGO())([kept, none, none], ones(3))
    assert alone[0] is not None
    assert alone[0].tolist() == [1, -2]


def test_bad_input() -> None:
    for forget in (("froget",), (), NAMES):
        with pytest.raises(InputError, match=r"`SAGO.forget` should name some of the objectives"):
            bound(SAGO(forget))
    with pytest.raises(InputError, match=r"0 names for 2 gradients. Call `bind`"):
        SAGO()(gradients([1], [2]), ones(2))


def test_stands_instead_of_a_weighting() -> None:
    check_alone(SAGO(), None)
    check_alone(SAGO(), Fixed())
    check_alone(None, PCGrad())
    with pytest.raises(InputError, match=r"`model.combination` \(SAGO\).*Found PCGrad"):
        check_alone(SAGO(), PCGrad())


# --------------------------------------------------------------------------------- sign agreement

Agreed = Literal["forget", "sum"]


def _tensor(*values: float) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("agreed", "expected"),
    [("forget", [1.0, -5.0, -1.0, 0.0, 2.0, 0.0]), ("sum", [5.0, -5.0, -4.0, 6.0, 2.0, 0.0])],
)
def test_sign_agreement_worked(agreed: Agreed, expected: list[float]) -> None:
    """Same sign, opposite, same, zero and positive, positive and zero, both zero."""
    forget = _tensor(1.0, 1.0, -1.0, 0.0, 2.0, 0.0)
    retain = _tensor(4.0, -5.0, -3.0, 6.0, 0.0, 0.0)
    (combined,) = sign_agreement([forget], [retain], agreed)
    assert combined is not None
    assert combined.tolist() == expected


@pytest.mark.parametrize("agreed", ["forget", "sum"])
def test_never_hurts_the_retain_side(agreed: Agreed) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        forget = torch.randn(50, generator=generator)
        retain = torch.randn(50, generator=generator)
        (combined,) = sign_agreement([forget], [retain], agreed)
        assert combined is not None
        assert combined @ retain >= 0


@pytest.mark.parametrize("agreed", ["forget", "sum"])
def test_products_too_small_for_the_format(agreed: Agreed) -> None:
    """1e-30 times -1e-30 rounds to 0 in float32; the signs still differ."""
    (combined,) = sign_agreement([_tensor(1e-30)], [_tensor(-1e-30)], agreed)
    assert_close(combined, _tensor(-1e-30))


@pytest.mark.parametrize("agreed", ["forget", "sum"])
def test_none_is_zero_everywhere(agreed: Agreed) -> None:
    one, zero = _tensor(1.0, -2.0), torch.zeros(2)
    combined = sign_agreement([one, None, None], [None, one, None], agreed)
    written_out = sign_agreement([one, zero], [zero, one], agreed)
    assert_close(combined[:2], written_out)
    assert combined[2] is None


def test_inputs_stay_as_they_are() -> None:
    forget, retain = [_tensor(1.0, 2.0)], [_tensor(3.0, -4.0)]
    (combined,) = sign_agreement(forget, retain)
    assert combined is not None
    combined.zero_()
    assert forget[0].tolist() == [1, 2]
    assert retain[0].tolist() == [3, -4]


def test_lengths_differ() -> None:
    with pytest.raises(ValueError, match=r"`retain` should have 1 entries. Found 2"):
        sign_agreement([None], [None, None])
