from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.gradients.diagnostics import norms, update_cosines
from lit_unlearn.gradients.weighting import IMTLG, AlignedMTL, ConFIG, NashMTL
from tests import asserts
from tests.inputs import GRAMIANS, jacobian

ORTHOGONAL = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
"""Two orthogonal gradients with the norms 1 and 2."""
INDEPENDENT = ["random_1", "random_2", "random_3", "random_4", "conflicting", "mixed_norms"]
"""Situations with linearly independent gradients."""


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_imtlg_worked() -> None:
    """Parts 1 of each unit gradient, so weights in proportion 1 : 1/2; they add up to 1."""
    assert_close(IMTLG()(ORTHOGONAL), _vector(2 / 3, 1 / 3))


def test_config_worked() -> None:
    """Direction (1, 1); the gradients' projections on it are 1 / sqrt 2 and 2 / sqrt 2.

    Length 3 / sqrt 2, so the update is (3/2, 3/2): weights 3/2 and 3/4.
    """
    assert_close(ConFIG()(ORTHOGONAL), _vector(1.5, 0.75))


def test_alignedmtl_worked() -> None:
    """Eigenvalues 1 and 4: B is diag(1, 1/2) times 1, sqrt 1 (the lower median), sqrt 2.5."""
    assert_close(AlignedMTL()(ORTHOGONAL), _vector(0.5, 0.25))
    assert_close(AlignedMTL("median")(ORTHOGONAL), _vector(0.5, 0.25))
    assert_close(AlignedMTL("rmse")(ORTHOGONAL), 2.5**0.5 * _vector(0.5, 0.25))


def test_nashmtl_worked() -> None:
    """G w = 1 / w for w = (1, 1/2), of length sqrt 2, which is also the norms' geometric mean."""
    assert_close(NashMTL()(ORTHOGONAL), _vector(1.0, 0.5), rtol=1e-7, atol=0)


@pytest.mark.parametrize("weighting", [IMTLG(), ConFIG()], ids=["imtlg", "config"])
@pytest.mark.parametrize("name", INDEPENDENT)
def test_projections_are_equal(name: str, weighting: IMTLG | ConFIG) -> None:
    cosine = update_cosines(GRAMIANS[name], weighting(GRAMIANS[name]))
    assert_close(cosine, cosine[:1].expand(len(cosine)))
    assert (cosine > 0).all()


def test_imtlg_never_turns_the_update_round() -> None:
    """Unit vectors (1, 0, 0), (0, 1, 0) and nearly (.8, .6, 0), the third of norm 0.01.

    The vector with projection 1 on all lies outside their cone, with a negative part of the third.
    Its weight is a hundred times its part, so the paper's sum of the weights is negative.
    """
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.8, 0.59, -0.109]], dtype=torch.float64)
    rows[2] *= 0.01 / rows[2].norm()
    gramian = rows @ rows.T
    assert torch.linalg.solve(gramian, norms(gramian)).sum() < 0
    weights = IMTLG()(gramian)
    assert weights[2] < 0
    assert (gramian @ weights > 0).all()
    assert_close(weights.abs().sum().item(), 1.0)


@pytest.mark.parametrize("weighting", [IMTLG(), ConFIG()], ids=["imtlg", "config"])
def test_no_update_for_opposite_gradients(weighting: IMTLG | ConFIG) -> None:
    assert weighting(GRAMIANS["opposite_unequal"]).tolist() == [0, 0]


@pytest.mark.parametrize("name", INDEPENDENT)
def test_nashmtl_solves_its_equation(name: str) -> None:
    """``(G w)_i`` in inverse proportion to w_i; the length is the norms' geometric mean."""
    gramian = GRAMIANS[name]
    weights = NashMTL()(gramian)
    asserts.assert_non_conflicting(NashMTL(), gramian)
    product = weights * (gramian @ weights)
    assert_close(product, product[:1].expand(len(product)), rtol=1e-6, atol=0)
    expected = norms(gramian).log().mean().exp() ** 2
    assert_close(product.sum(), expected, rtol=1e-6, atol=0)


def test_nashmtl_is_the_best_bargain() -> None:
    """The product of all gains ``<g_i, d>`` is the largest for its direction, of 2000 tried."""
    rows = jacobian(3, 3, seed=1)
    update = NashMTL()(rows @ rows.T) @ rows
    generator = torch.Generator().manual_seed(0)
    tried = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    gains = torch.cat([update[None], update + 0.3 * tried]) @ rows.T
    lengths = torch.cat([update[None], update + 0.3 * tried]).norm(dim=1)
    bargains = torch.where((gains > 0).all(1), gains.prod(1), 0.0) / lengths**3
    assert bargains.argmax() == 0


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@pytest.mark.parametrize("name", ["random_4", "conflicting", "rank_2_of_5", "equal"])
def test_alignedmtl_equals_torchjd(name: str, scale: str) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.AlignedMTLWeighting(scale_mode=scale)(GRAMIANS[name])
    assert_close(AlignedMTL(scale)(GRAMIANS[name]), theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["random_2", "random_3", "conflicting", "orthogonal", "equal"])
def test_imtlg_equals_torchjd(name: str) -> None:
    """Up to the scale, which is the same where no weight is negative."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.IMTLGWeighting()(GRAMIANS[name])
    assert_close(IMTLG()(GRAMIANS[name]), theirs / theirs.abs().sum())


@pytest.mark.parametrize("seed", range(5))
def test_config_equals_torchjd(seed: int) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = jacobian(4, 10, seed)
    assert_close(ConFIG()(rows @ rows.T) @ rows, aggregation.ConFIG()(rows))


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")
@pytest.mark.parametrize("seed", range(3))
def test_nashmtl_equals_torchjd(seed: int) -> None:
    """They approximate the same weights by a sequence of convex problems."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    pytest.importorskip("cvxpy", reason="TorchJD solves NashMTL with cvxpy and ecos")
    pytest.importorskip("ecos", reason="TorchJD solves NashMTL with ecos, under the GPL")
    rows = jacobian(3, 10, seed)
    theirs = aggregation.NashMTL(n_tasks=3, optim_niter=100)(rows)
    ours = NashMTL()(rows @ rows.T) @ rows
    assert_close(ours / ours.norm(), theirs / theirs.norm(), rtol=0, atol=1e-2)
