"""Weightings: from the Gramian of the objectives' gradients to their weights in the update.

A weighting sees inner products only, never a gradient. The training step hands it the Gramian of
the gradients ``c_i g_i`` that carry the objectives' own weights ``c_i``, and multiplies what comes
back with them: the update is ``sum_i w_i c_i g_i``. To add a weighting: subclass `Weighting`.

What all of them keep to: float64 throughout; any norms from 1e-10 to 1e10, also side by side, since
the work is done on cosines; the same weights when all gradients are scaled alike; objectives in
another order give the same weights in that order; finite weights for zero, equal and opposite
gradients. A Gramian with NaN or infinity gives NaN weights, on which the step stops.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from itertools import permutations, product

import torch
from torch import Tensor, nn

from lit_unlearn.gradients.diagnostics import cosines, is_zero, norms
from lit_unlearn.schema import InputError

ALL_ORDERS_UP_TO = 7
"""Most objectives for which `PCGrad` goes through all orders: 7 * 6! rows of 7 numbers."""
MGDA_LIMIT = 12
"""Most objectives that `MGDA` takes: 4095 sets of them."""
_RANK = 1e-10  # smallest eigenvalue of the equations of gradients that count as independent
_NEGLIGIBLE = 1e-12  # share of the parts under which a set does as well without the member
_ROUNDING = 1e-14  # of a squared norm, relative to the square of its parts laid end to end
_TIE = 1e-9  # relative difference under which parts count as equally small


class Weighting(nn.Module, ABC):
    """Turns the Gramian of the objectives' gradients into their weights in the update."""

    needs_gramian: bool = True
    """Whether `forward` reads the values; if not, the step computes a Gramian only for its logs."""

    @abstractmethod
    def forward(self, gramian: Tensor) -> Tensor:
        """Weights of the gradients.

        Args:
            gramian: ``[M, M]``, float64: inner products of the gradients.

        Returns:
            ``[M]``, float64, on the device of the Gramian.
        """


class Fixed(Weighting):
    """Every gradient as it is: the update is the gradient of the weighted sum of the losses."""

    needs_gramian = False

    def forward(self, gramian: Tensor) -> Tensor:
        """``[M]`` ones."""
        return gramian.new_ones(len(gramian), dtype=torch.float64)


class PCGrad(Weighting):
    """Projects each gradient onto the normal plane of every other that it conflicts with, and adds.

    Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", arXiv:2001.06782, Algorithm 1:
    starting from g_i' = g_i, for the other objectives j one after the other, where
    ``<g_i', g_j> < 0``: g_i' -= ``<g_i', g_j> / |g_j|^2`` g_j with the original g_j. The update is
    the sum of the g_i'. With two objectives it conflicts with neither; with more it may.

    The paper draws the order of the others at random. Here the weights are the average over all
    orders, which is the expectation of the paper's update and needs no generator. Beyond 7
    objectives the average is over the rotations of one order and of its reverse: the others
    sorted by their cosine with g_i. A zero gradient has weight 1 and changes nothing.
    """

    def forward(self, gramian: Tensor) -> Tensor:
        """See `Weighting.forward`."""
        if not gramian.isfinite().all():
            return torch.full_like(gramian[0], torch.nan, dtype=torch.float64)
        weights = torch.ones(len(gramian), dtype=torch.float64)
        alive = (~is_zero(gramian)).nonzero().squeeze(1).cpu()
        if len(alive):
            nonzero = gramian.cpu()[alive][:, alive]
            weights[alive] = projection_weights(cosines(nonzero), norms(nonzero))
        return weights.to(gramian.device)


def projection_weights(cosine: Tensor, lengths: Tensor) -> Tensor:
    """Weights of the original gradients in the sum of the projected ones.

    Args:
        cosine: ``[M, M]``, float64: cosines of the gradients, none of which is zero.
        lengths: ``[M]``, float64: their norms.

    Returns:
        ``[M]``, float64, all at least 1.
    """
    starts, orders = _orders(cosine)
    # Coefficients of the g_j / |g_j| in g_i' / |g_i|: one row per start i and order.
    rows = torch.eye(len(cosine), dtype=torch.float64)[starts]
    for others in orders.unbind(1):
        inner = (cosine[others] * rows).sum(1, keepdim=True)
        rows.scatter_add_(1, others[:, None], -inner.clamp(max=0))
    scale = lengths[starts][:, None] / lengths[None, :]
    return (rows * scale).sum(0) * (len(cosine) / len(rows))


def _orders(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Each start i with each order of the others: ``[R]`` and ``[R, M - 1]``, int64."""
    count = len(cosine)
    if count <= ALL_ORDERS_UP_TO:
        return _all_orders(count)
    starts: list[int] = []
    orders: list[list[int]] = []
    for start in range(count):
        ranked = [j for j in cosine[start].argsort(stable=True).tolist() if j != start]
        for order in (ranked, ranked[::-1]):
            starts.extend([start] * len(order))
            orders.extend(order[shift:] + order[:shift] for shift in range(len(order)))
    return torch.tensor(starts), torch.tensor(orders)


@lru_cache(maxsize=ALL_ORDERS_UP_TO)
def _all_orders(count: int) -> tuple[Tensor, Tensor]:
    rows = list(permutations(range(count)))
    table = torch.tensor(rows).reshape(len(rows), count)
    return table[:, 0], table[:, 1:]


class MGDA(Weighting):
    """The shortest vector in the convex hull of the gradients: it conflicts with none of them.

    Désidéri 2012, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization";
    Sener and Koltun 2018, arXiv:1810.04650, Eq. 4: minimise ``|sum_i w_i g_i|^2`` over ``w >= 0``,
    ``sum_i w_i = 1``. Solved exactly, by trying every set of objectives that can be active, where
    the paper iterates Frank-Wolfe steps. Where several weights give the shortest vector, see
    `min_norm_weights`.

    Zero gradients are left out (weight 0, all weights 0 when there is nothing else). Otherwise the
    shortest vector would be the zero vector with all weight on the dead objective, and one
    objective that is done would stop the training of the others.

    The shortest vector is at most as long as the shortest gradient, and the weight of a long
    gradient beside a short one is close to 0: look at the norms before using it. An objective's own
    weight makes its gradient longer and so lets it count less, not more.

    Args:
        normalize: Look for the shortest vector in the hull of the unit gradients ``g_i / |g_i|``,
            and scale it by the geometric mean of the norms, so that the update keeps the
            gradients' unit. Norms, and with them the objectives' own weights, then play no part in
            the direction; the weights no longer add up to 1.
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, gramian: Tensor) -> Tensor:
        """See `Weighting.forward`.

        Raises:
            InputError: There are more objectives than can be solved exactly.
        """
        if not gramian.isfinite().all():
            return torch.full_like(gramian[0], torch.nan, dtype=torch.float64)
        weights = torch.zeros(len(gramian), dtype=torch.float64)
        alive = (~is_zero(gramian)).nonzero().squeeze(1).cpu()
        if len(alive):
            nonzero = gramian.cpu()[alive][:, alive]
            lengths = norms(nonzero)
            hull = torch.ones_like(lengths) if self.normalize else lengths
            solution = min_norm_weights(cosines(nonzero), hull)
            scale = lengths.log().mean().exp() / lengths if self.normalize else 1.0
            weights[alive] = solution * scale
        return weights.to(gramian.device)


def min_norm_weights(cosine: Tensor, lengths: Tensor) -> Tensor:
    """Weights ``w >= 0`` with sum 1 that make ``sum_i w_i g_i`` shortest.

    For each set S of gradients the stationary point on the affine hull of S solves the linear
    equations ``G_SS w_S = t 1``, ``1' w_S = 1``. The minimum over the simplex is among those
    points that lie inside it. Unknowns are ``b_i = w_i |g_i|``, so that the equations hold cosines.

    Args:
        cosine: ``[M, M]``, float64: cosines of the gradients, none of which is zero.
        lengths: ``[M]``, float64: their norms.

    Returns:
        ``[M]``, float64. Where the minimiser is not unique: the extreme one with the smallest parts
        ``sum_i w_i |g_i|``, and the mean where several have that too, so that the order of the
        objectives does not matter.

    Raises:
        InputError: ``M`` is above `MGDA_LIMIT`.
    """
    count = len(lengths)
    if count > MGDA_LIMIT:
        raise InputError(
            f"Parameter `weighting`: MGDA should get at most {MGDA_LIMIT} objectives with a "
            f"gradient, since it tries every set of them. Found {count}. Join objectives (one "
            "objective takes several sources) or use PCGrad or Fixed."
        )
    sets = _sets(count)
    short = lengths.min() / lengths  # in (0, 1]: the constraint's coefficients
    within = short * sets
    largest = within.amax(1, keepdim=True)
    equations = torch.zeros(len(sets), count + 1, count + 1, dtype=torch.float64)
    equations[:, :count, :count] = cosine * sets[:, :, None] * sets[:, None, :]
    equations[:, :count, :count] += torch.diag_embed(1 - sets)  # b_i = 0 outside the set
    equations[:, :count, count] = equations[:, count, :count] = within / largest
    independent = torch.linalg.eigvalsh(equations).abs().amin(1) > _RANK
    right = torch.zeros(int(independent.sum()), count + 1, dtype=torch.float64)
    right[:, count] = 1 / largest[independent, 0]
    parts = torch.linalg.solve(equations[independent], right)[:, :count]
    least = _NEGLIGIBLE * parts.abs().sum(1, keepdim=True)
    inside = ((parts > least) | (sets[independent] == 0)).all(1)
    parts = parts[inside] * sets[independent][inside]
    weights = _shortest(parts, cosine) * short
    return weights / weights.sum()


def _shortest(parts: Tensor, cosine: Tensor) -> Tensor:
    """Of candidates ``b`` (``[S, M]``) the one with the shortest ``sum_i b_i g_i / |g_i|``.

    A length is known up to the rounding of its parts only, so each candidate is judged by the
    longest that it may be; of those that may be as short as the best, the smallest parts win.
    """
    sizes = parts.sum(1)
    squares = ((parts @ cosine) * parts).sum(1).clamp(min=0)
    shortest = squares <= (squares + _ROUNDING * sizes**2).min()
    smallest = shortest & (sizes <= sizes[shortest].min() * (1 + _TIE))
    return parts[smallest].mean(0)


@lru_cache(maxsize=MGDA_LIMIT)
def _sets(count: int) -> Tensor:
    """``[2^M - 1, M]``, float64: the non-empty sets of ``M`` objectives, 1 for a member."""
    return torch.tensor(list(product((0.0, 1.0), repeat=count))[1:], dtype=torch.float64)
