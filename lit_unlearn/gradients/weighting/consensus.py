"""Consensus: updates that conflict with no gradient, or serve the worst-served one best."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting.base import CosineWeighting
from lit_unlearn.gradients.weighting.solvers import (
    cone_parts,
    conflict_averse_parts,
    min_norm_weights,
)


class MGDA(CosineWeighting):
    """The shortest vector in the convex hull of the gradients: it conflicts with none of them.

    Désidéri 2012, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization";
    Sener and Koltun 2018, arXiv:1810.04650, Eq. 4: minimise ``|sum_i w_i g_i|^2`` over ``w >= 0``,
    ``sum_i w_i = 1``. Solved exactly, by trying every set of objectives that can be active, where
    the paper iterates Frank-Wolfe steps; at most 12 objectives. Where several weights give the
    shortest vector, see `min_norm_weights`. MOLLM (arXiv:2412.20412) unlearns with this rule.

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

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        if not self.normalize:
            return min_norm_weights(cosine, lengths)
        weights = min_norm_weights(cosine, torch.ones_like(lengths))
        return weights * lengths.log().mean().exp() / lengths


class CAGrad(CosineWeighting):
    """Near the mean gradient, the update that serves the worst-served objective best.

    Liu et al. 2021, "Conflict-Averse Gradient Descent for Multi-task Learning", arXiv:2110.14048,
    Eq. 3: with g_0 the mean of the gradients, maximise ``min_i <g_i, d>`` over
    ``|d - g_0| <= c |g_0|``. Solved exactly, by trying every set of objectives that can be active;
    at most 12 objectives. The paper's rescaling by ``1 / (1 + c^2)`` in some of its experiments is
    left out. Where two gradients cancel and no vector serves both of them, the update is the
    nearest to g_0 that conflicts with none. Zero gradients are left out, also of the mean.

    Long gradients rule the mean, short ones rule the minimum.

    Args:
        c: How far from the mean gradient the update may be, relative to its length: above 0
            (`Fixed` in the limit) and below 1. 0.5 is the default of LibMTL.
    """

    def __init__(self, c: float = 0.5) -> None:
        super().__init__()
        if not 0 < c < 1:
            raise InputError(
                f"Parameter `c` of CAGrad should be above 0 and below 1. Found {c}. "
                "Use Fixed for 0, MGDA for large values."
            )
        self.c = c

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        return conflict_averse_parts(cosine, lengths, self.c) / lengths


class UPGrad(CosineWeighting):
    """Moves each gradient just out of every conflict, and takes the mean.

    Quinton and Rey 2024, "Jacobian Descent for Multi-Objective Optimization", arXiv:2406.16232,
    Section 3.1: each g_i is projected onto the dual cone, the vectors that have no negative inner
    product with any gradient; the update is the mean of the projections, and conflicts with none.
    Solved exactly, by trying every set of objectives that can be active; at most 12 objectives.
    Zero gradients are left out, also of the mean.

    Without conflict this is the mean gradient, so objectives' own weights keep their meaning.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        """See `cone_parts`; the projection of g_i is ``|g_i|`` times that of its unit vector."""
        projected = cone_parts(cosine, torch.eye(len(lengths), dtype=torch.float64))
        return (lengths[:, None] * projected / lengths[None, :]).mean(0)


class DualProj(CosineWeighting):
    """Moves the mean gradient just out of every conflict.

    The projection of the mean gradient onto the dual cone, the vectors that have no negative inner
    product with any gradient. Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory",
    arXiv:1706.08840, Eq. 11; the name is that of TorchJD. Solved exactly, by trying every set of
    objectives that can be active; at most 12 objectives. Zero gradients are left out, also of the
    mean. Unlike with `UPGrad`, a short gradient in conflict with a long one is only no longer hurt.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        return cone_parts(cosine, lengths[None] / len(lengths))[0] / lengths
