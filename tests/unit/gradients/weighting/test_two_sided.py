from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import NGDiff, OneSidedProjection, TwoSided
from tests.inputs import jacobian

NAMES = ["forget", "retain"]
CONFLICT = torch.tensor([[-1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
"""g_f = (-1, 1), g_r = (1, 0): inner product -1, squared norms 2 and 1."""
AGREEMENT = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)


def _update(weighting: TwoSided, rows: Tensor, names: list[str] = NAMES) -> Tensor:
    weighting.bind(names)
    return weighting(rows @ rows.T) @ rows


@pytest.mark.parametrize(
    ("weighting", "in_conflict", "in_agreement"),
    [
        # g_f + g_r = (0, 1) has nothing of g_r: g_f is replaced by it, g_r added
        (OneSidedProjection(), [1.0, 1.0], [2.0, 1.0]),
        # the same without g_r
        (OneSidedProjection(add_other=False), [0.0, 1.0], [1.0, 1.0]),
        # also where they agree: (1, 1) becomes (0, 1)
        (OneSidedProjection(when="always"), [1.0, 1.0], [1.0, 1.0]),
        # g_r becomes g_r + 1/2 g_f = (1/2, 1/2), and g_r - 1/2 g_f = (1/2, -1/2)
        (OneSidedProjection(projected="retain", when="always"), [-0.5, 1.5], [1.5, 0.5]),
        (OneSidedProjection(projected="retain"), [-0.5, 1.5], [2.0, 1.0]),
    ],
    ids=["pcgrad", "gru", "prism", "blur", "blur_on_conflict"],
)
def test_projection_worked(
    weighting: OneSidedProjection, in_conflict: list[float], in_agreement: list[float]
) -> None:
    """The update as a vector, for the gradients above; each line says how it comes about."""
    assert_close(_update(weighting, CONFLICT).tolist(), in_conflict)
    assert_close(_update(weighting, AGREEMENT).tolist(), in_agreement)


def test_ngdiff_worked() -> None:
    """Norms sqrt 2 and 1, geometric mean 2^(1/4): the unit vectors' sum times that."""
    expected = 2**0.25 * torch.tensor([1 - 0.5**0.5, 0.5**0.5], dtype=torch.float64)
    assert_close(_update(NGDiff(), CONFLICT), expected)


@pytest.mark.parametrize("seed", range(5))
def test_projection_by_vectors(seed: int) -> None:
    """With two objectives on each side, computed on the sums of the gradients themselves."""
    rows = jacobian(4, 6, seed)
    names = ["forget", "retain", "adversarial", "neighbor"]
    forget, retain = rows[0] + rows[2], rows[1] + rows[3]
    projected = forget - forget @ retain / (retain @ retain) * retain
    sides = ("forget", "adversarial")
    update = _update(OneSidedProjection(sides, when="always"), rows, names)
    assert_close(update, projected + retain)
    update = _update(NGDiff(sides), rows, names)
    expected = forget / forget.norm() + retain / retain.norm()
    assert_close(update, expected * (forget.norm() * retain.norm()).sqrt())


def test_side_that_cancels_leaves_all_as_it_is() -> None:
    rows = torch.tensor([[1.0, 2.0], [0.3, 0.1], [-0.3, -0.1]], dtype=torch.float64)
    weighting = NGDiff()
    weighting.bind(["forget", "retain", "neighbor"])
    assert weighting(rows @ rows.T).tolist() == [1, 1, 1]


@pytest.mark.parametrize("projected", ["forget", "retain"])
def test_side_that_only_corrects_never_becomes_the_update(
    projected: Literal["forget", "retain"],
) -> None:
    """GRU: with nothing to project there is no update, least of all the other side's gradient."""
    own = NAMES.index(projected)
    rows = torch.zeros(2, 2, dtype=torch.float64)
    rows[1 - own, 0] = 3
    weighting = OneSidedProjection(projected=projected, add_other=False)
    assert _update(weighting, rows).tolist() == [0, 0]
    assert _update(weighting, rows.flip(0)).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("forget", "names"),
    [(("froget",), NAMES), (("forget",), ["forget"]), ((), NAMES)],
    ids=["unknown", "no retain side", "no forget side"],
)
def test_forget_side_must_fit(forget: tuple[str, ...], names: list[str]) -> None:
    with pytest.raises(InputError, match=r"`NGDiff.forget` should name some of the objectives"):
        NGDiff(forget).bind(names)


def test_names_must_be_known() -> None:
    with pytest.raises(InputError, match=r"Found 0 names for 2 rows. Call `bind`"):
        NGDiff()(torch.eye(2, dtype=torch.float64))
