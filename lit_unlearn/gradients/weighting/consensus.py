"""Consensus: updates that conflict with no gradient, or improve the worst-served objective most."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting.base import CosineWeighting
from lit_unlearn.gradients.weighting.solvers import (
    cone_parts,
    conflict_averse_parts,
    min_norm_weights,
)

__all__ = ["MGDA", "CAGrad", "DualProj", "UPGrad"]


@dataclass
class MGDA(CosineWeighting):
    """The shortest vector in the convex hull of the gradients: it conflicts with none of them.

    Désidéri 2012, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization";
    Sener and Koltun 2018, arXiv:1810.04650, Eq. 4: minimise ``|sum_i w_i g_i|^2`` over ``w >= 0``,
    ``sum_i w_i = 1``, exactly where the paper iterates Frank-Wolfe steps (at most 12 objectives).
    If several weights give the shortest vector, see `min_norm_weights`. MOLLM (arXiv:2412.20412)
    unlearns with this rule.

    Zero gradients get the weight 0; otherwise one objective with loss 0 would stop the training of
    the others. The shortest vector is at most as long as the shortest gradient, and the weight of a
    long gradient beside a short one is close to 0: check the norms before using this rule. An
    objective's own weight makes its gradient longer, and so makes it count less, not more.

    Args:
        normalize: Look for the shortest vector in the hull of the unit gradients ``g_i / |g_i|``,
            and scale it by the geometric mean of the norms, so that the update keeps the gradients'
            unit. Norms, and with them the objectives' own weights, then do not change the
            direction; the weights no longer add up to 1.
    """

    normalize: bool = False

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        if not self.normalize:
            return min_norm_weights(cosine, lengths)
        weights = min_norm_weights(cosine, torch.ones_like(lengths))
        return weights * lengths.log().mean().exp() / lengths


@dataclass
class CAGrad(CosineWeighting):
    """The update near the mean gradient that improves the worst-served objective most.

    Liu et al. 2021, "Conflict-Averse Gradient Descent for Multi-task Learning", arXiv:2110.14048,
    Eq. 3: with g_0 the mean of the gradients, maximise ``min_i <g_i, d>`` over ``|d - g_0| <= c
    |g_0|``, exactly (at most 12 objectives). The paper's rescaling by ``1 / (1 + c^2)`` in some of
    its experiments is left out. If two gradients cancel and no vector improves both objectives,
    the update is the nearest to g_0 that conflicts with none. Zero gradients are left out, also of
    the mean. Long gradients dominate the mean, short ones the minimum.

    Args:
        c: Largest distance of the update from the mean gradient, relative to the length of the
            mean: above 0 (`Fixed` in the limit) and below 1. 0.5 is the default of LibMTL.
    """

    c: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.c < 1:
            raise InputError(
                f"Parameter `CAGrad.c` should be above 0 and below 1. Found {self.c}. "
                "Use Fixed for 0, MGDA for large values."
            )

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        return conflict_averse_parts(cosine, lengths, self.c) / lengths


class UPGrad(CosineWeighting):
    """Project each gradient onto the directions without conflict, and take the mean.

    Quinton and Rey 2024, "Jacobian Descent for Multi-Objective Optimization", arXiv:2406.16232,
    Section 3.1: each g_i is projected onto the dual cone, the vectors that have no negative inner
    product with any gradient; the update is the mean of the projections, and conflicts with none.
    It is exact (at most 12 objectives). Zero gradients are left out, also of the mean. Without
    conflict this is the mean gradient, so objectives' own weights keep their meaning.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        # the projection of g_i is |g_i| times that of its unit vector
        projected = cone_parts(cosine, torch.eye(len(lengths), dtype=torch.float64))
        return (lengths[:, None] * projected / lengths[None, :]).mean(0)


class DualProj(CosineWeighting):
    """Project the mean gradient onto the directions without conflict.

    These are the dual cone, the vectors that have no negative inner product with any gradient.
    Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory", arXiv:1706.08840, Eq. 11; the name is
    that of TorchJD. The projection is exact (at most 12 objectives). Zero gradients are left out,
    also of the mean. If a short gradient conflicts with a long one, the update is orthogonal to
    the short one, which `UPGrad` still follows in part.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        return cone_parts(cosine, lengths[None] / len(lengths))[0] / lengths
