from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.gradients.elementwise import sign_agreement

Agreed = Literal["forget", "sum"]


def _tensor(*values: float) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("agreed", "expected"),
    [("forget", [1.0, -5.0, -1.0, 0.0, 2.0, 0.0]), ("sum", [5.0, -5.0, -4.0, 6.0, 2.0, 0.0])],
)
def test_worked(agreed: Agreed, expected: list[float]) -> None:
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
