from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.diagnostics import norms, update_norm
from lit_unlearn.gradients.weighting import MGDA, CAGrad, DualProj, UPGrad
from tests.inputs import GRAMIANS, JACOBIANS, jacobian

ALIVE = {name: rows[(rows != 0).any(1)] for name, rows in JACOBIANS.items() if (rows != 0).any()}
CONFLICT = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------------- MGDA


def test_mgda_two_objectives_in_conflict() -> None:
    """g1 = (1, 0), g2 = (-1, 1): minimise |w g1 + (1 - w) g2|^2.

    The solution has <u, g1 - g2> = 0: w = (|g2|^2 - <g1, g2>) / |g1 - g2|^2 = (2 + 1) / 5 = 3/5.
    u = (3/5 - 2/5, 2/5) = (1/5, 2/5); <u, g1> = <u, g2> = 1/5 = |u|^2.
    """
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    weights = MGDA()(rows @ rows.T)
    assert_close(weights, torch.tensor([0.6, 0.4], dtype=torch.float64))
    assert_close(weights @ rows, torch.tensor([0.2, 0.4], dtype=torch.float64))


def test_mgda_normalized_two_objectives_in_conflict() -> None:
    """The same gradients: |g1| = 1, |g2| = sqrt 2, geometric mean 2^(1/4).

    Two unit vectors always share equally: w = (1/2, 1/2), divided by the norms and multiplied by
    their geometric mean: 2^(1/4) / 2 * (1, 2^(-1/2)).
    """
    gramian = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    expected = 2**0.25 / 2 * torch.tensor([1.0, 2**-0.5], dtype=torch.float64)
    assert_close(MGDA(normalize=True)(gramian), expected)


def test_mgda_shortest_gradient_alone() -> None:
    """g1 = (1, 0), g2 = (3, 1): <g1, g2> = 3 > |g1|^2, so g1 is itself the shortest in the hull."""
    rows = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    assert_close(MGDA()(rows @ rows.T), torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_mgda_opposite_and_equal_gradients() -> None:
    """g2 = -3 g1: 3/4 g1 + 1/4 g2 = 0. Equal gradients: every weight will do, ours are equal."""
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    expected = torch.tensor([0.75, 0.25], dtype=torch.float64)
    assert_close(MGDA()(GRAMIANS["opposite_unequal"]), expected)
    assert_close(MGDA()(GRAMIANS["equal"]), third)


def test_mgda_very_different_norms() -> None:
    """Orthogonal g1, g2 of norms 1e-10 and 1e10: w2 = |g1|^2 / (|g1|^2 + |g2|^2), about 1e-40.

    Its part w2 g2 of norm 1e-30 is far below rounding beside g1, so any w2 of that size will do.
    """
    gramian = torch.diag(torch.tensor([1e-20, 1e20], dtype=torch.float64))
    weights = MGDA()(gramian)
    assert_close(weights[0].item(), 1.0)
    assert 0 <= weights[1].item() <= 1e-40


def test_mgda_leaves_out_zero_gradients() -> None:
    """Otherwise all weight would go to the dead objective, and the step would be zero."""
    alive = GRAMIANS["one_zero"][:2, :2]
    weights = MGDA()(GRAMIANS["one_zero"])
    assert weights[2] == 0
    assert_close(weights[:2], MGDA()(alive))
    assert update_norm(GRAMIANS["one_zero"], weights) > 0.1
    assert MGDA()(GRAMIANS["all_zero"]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", [name for name in GRAMIANS if name != "all_zero"])
def test_mgda_is_optimal(name: str) -> None:
    """u is the shortest vector in the hull iff ``<u, g_i> >= |u|^2`` for all i (1e-10 relative)."""
    rows = JACOBIANS[name][(JACOBIANS[name] != 0).any(1)]
    weights = MGDA()(rows @ rows.T)
    update = weights @ rows
    assert_close(weights.sum().item(), 1.0)
    slack = rows @ update - update @ update
    shortest = rows.norm(dim=1).min()
    assert (slack >= -1e-10 * shortest * rows.norm(dim=1)).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 4, 7])
def test_mgda_equals_torchjd(count: int, seed: int) -> None:
    """Their Frank-Wolfe with many iterations; its error shrinks like one over their number."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = jacobian(count, 10, seed)
    gramian = rows @ rows.T
    theirs = aggregation.MGDAWeighting(epsilon=1e-12, max_iters=3000)(gramian)
    ours = MGDA()(gramian)
    assert_close(ours @ rows, theirs @ rows, rtol=0, atol=5e-3 * norms(gramian).min().item())
    assert update_norm(gramian, ours) <= update_norm(gramian, theirs) * (1 + 1e-12)


# ------------------------------------------------------------------------- UPGrad and DualProj


def test_upgrad_two_objectives_in_conflict() -> None:
    """g1 = (1, 0), g2 = (-1, 1): the projections are g1 + 1/2 g2 and g2 + g1, as of PCGrad.

    (1/2, 1/2) and (0, 1) conflict with neither; the mean is 1 g1 + 3/4 g2 = (1/4, 3/4).
    """
    weights = UPGrad()(CONFLICT @ CONFLICT.T)
    assert_close(weights, _vector(1.0, 0.75))
    assert_close(weights @ CONFLICT, _vector(0.25, 0.75))


def test_upgrad_opposite_gradients_cancel() -> None:
    """Only the zero vector conflicts with neither of two opposite gradients."""
    rows = JACOBIANS["opposite_unequal"]
    assert_close(UPGrad()(rows @ rows.T) @ rows, torch.zeros(20, dtype=torch.float64))
    assert_close(DualProj()(rows @ rows.T) @ rows, torch.zeros(20, dtype=torch.float64))


def test_dualproj_projects_the_mean() -> None:
    """g1 = (1, 0), g2 = (-3, 1): the mean (-1, 1/2) hurts g1; without that it is (0, 1/2).

    The mean plus one g1: weights 3/2 and 1/2.
    """
    rows = torch.tensor([[1.0, 0.0], [-3.0, 1.0]], dtype=torch.float64)
    weights = DualProj()(rows @ rows.T)
    assert_close(weights, _vector(1.5, 0.5))
    assert_close(weights @ rows, _vector(0.0, 0.5))


def test_dualproj_leaves_a_harmless_mean_alone() -> None:
    """The two conflict, but their mean (0, 1/2) with neither: unlike UPGrad, nothing is done."""
    assert_close(DualProj()(CONFLICT @ CONFLICT.T), _vector(0.5, 0.5))


def assert_is_projection(vector: Tensor, projected: Tensor, rows: Tensor, parts: Tensor) -> None:
    """Moreau's conditions, which only the projection onto the dual cone satisfies.

    The projection has no negative product with a row; it is the vector plus a combination of the
    rows with parts that are not negative; and it is orthogonal to what was added.
    """
    reach = (parts.abs() * rows.norm(dim=1)).sum() + vector.norm()
    assert (rows @ projected >= -1e-9 * reach * rows.norm(dim=1)).all()
    assert (parts >= -1e-12 * parts.abs().max()).all() or parts.abs().max() < 1e-12
    assert_close(vector + parts @ rows, projected, rtol=0, atol=1e-9 * reach.item())
    assert abs(projected @ (parts @ rows)) <= 1e-9 * reach**2


@pytest.mark.parametrize("name", ALIVE)
def test_dualproj_is_the_projection(name: str) -> None:
    rows = ALIVE[name]
    weights = DualProj()(rows @ rows.T)
    assert_is_projection(rows.mean(0), weights @ rows, rows, weights - 1 / len(rows))


@pytest.mark.parametrize("name", [n for n in ALIVE if "norms" not in n])
def test_upgrad_is_the_mean_of_dykstras_projections(name: str) -> None:
    """Dykstra's algorithm on the gradients: project onto the half-spaces in turn, 300 times."""
    rows = ALIVE[name] / ALIVE[name].norm(dim=1).max()
    units = rows / rows.norm(dim=1, keepdim=True)
    points, corrections = rows.clone(), torch.zeros(len(rows), *rows.shape, dtype=torch.float64)
    for _ in range(300):
        for unit, correction in zip(units, corrections, strict=True):
            moved = points + correction
            points = moved - (moved @ unit).clamp(max=0)[:, None] * unit
            correction.copy_(moved - points)
    ours = UPGrad()(rows @ rows.T) @ rows
    assert_close(ours, points.mean(0), rtol=0, atol=2e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 4, 7])
def test_cone_projections_equal_torchjd(count: int, seed: int) -> None:
    """Their quadratic program has 1e-4 on the diagonal; here 1e-12."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    linalg = pytest.importorskip("torchjd.linalg")
    pytest.importorskip("quadprog", reason="TorchJD solves these with quadprog, under the GPL")
    projector = linalg.QuadprogProjector(norm_eps=1e-12, reg_eps=1e-12)
    rows = jacobian(count, 10, seed)
    gramian = rows @ rows.T
    for ours, theirs in (
        (UPGrad(), aggregation.UPGradWeighting(projector=projector)),
        (DualProj(), aggregation.DualProjWeighting(projector=projector)),
    ):
        assert_close(ours(gramian) @ rows, theirs(gramian) @ rows, rtol=1e-5, atol=1e-5)


# ----------------------------------------------------------------------------------------- CAGrad


def test_cagrad_orthogonal_gradients() -> None:
    """Unit g1, g2: both are served alike by the mean, which grows by the factor 1 + c."""
    weights = CAGrad(c=0.5)(torch.eye(2, dtype=torch.float64))
    assert_close(weights, _vector(0.75, 0.75))


def test_cagrad_serves_the_worst_served() -> None:
    """g1 = (1, 0), g2 = (3, 1): g_0 = (2, 1/2), and g1 is served worst, however far d moves to it.

    d = g_0 + c |g_0| g1, so the weights are 1/2 + c sqrt(4.25) and 1/2.
    """
    rows = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    assert_close(CAGrad(c=0.5)(rows @ rows.T), _vector(0.5 + 0.5 * 4.25**0.5, 0.5))


def test_cagrad_where_no_vector_serves_all() -> None:
    """(1, 0), (-1, 0), (0, 1): at best the first two gain nothing, as with the mean (0, 1/3)."""
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert_close(CAGrad()(rows @ rows.T) @ rows, _vector(0.0, 1 / 3))


def test_cagrad_of_a_mean_of_zero() -> None:
    """Equal and opposite: the ball around 0 has radius 0."""
    assert_close(CAGrad()(GRAMIANS["opposite"]), _vector(0.5, 0.5))


@pytest.mark.parametrize("c", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", [n for n in ALIVE if "opposite" not in n and n != "lattice"])
def test_cagrad_is_optimal(name: str, c: float) -> None:
    """Duality: no d in the ball serves the worst better than any w in the simplex allows.

    ``min_i <g_i, d> <= <g_w, g_0> + c |g_0| |g_w|`` for every d and w; equality proves both.
    """
    rows = ALIVE[name]
    mean = rows.mean(0)
    weights = CAGrad(c)(rows @ rows.T)
    update = weights @ rows
    moved = weights - 1 / len(rows)
    scale = rows.norm(dim=1).max()
    assert (update - mean).norm() <= c * mean.norm() + 1e-7 * scale
    worst = (rows @ update).min()
    if moved.abs().sum() > 1e-9:
        hull = (moved / moved.sum()) @ rows
        bound = hull @ mean + c * mean.norm() * hull.norm()
        # the Gramian of gradients of mixed norms is rounded differently on each kind of processor
        assert_close(worst, bound, rtol=1e-5, atol=1e-9 * (hull.norm() * scale).item())
    assert (moved >= -1e-12).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 4, 7])
def test_cagrad_equals_torchjd(count: int, seed: int) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    pytest.importorskip("cvxpy", reason="TorchJD solves CAGrad with cvxpy")
    rows = jacobian(count, 10, seed)
    gramian = rows @ rows.T
    theirs = aggregation.CAGradWeighting(c=0.5, norm_eps=0.0)(gramian)
    assert_close(CAGrad()(gramian) @ rows, theirs @ rows, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("c", [0.0, 1.0, -0.5])
def test_cagrad_c(c: float) -> None:
    with pytest.raises(InputError, match=r"`CAGrad.c` .* below 1. Found"):
        CAGrad(c=c)
