"""Balance: updates in which every objective counts alike, independent of its gradient's norm."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.gradients.diagnostics import CANCELLED
from lit_unlearn.gradients.weighting.base import CosineWeighting
from lit_unlearn.gradients.weighting.solvers import bargaining_parts

__all__ = ["IMTLG", "AlignedMTL", "ConFIG", "NashMTL"]

_DEPENDENT = 1e-10
"""Smallest eigenvalue of the cosines of independent gradients, relative to the largest."""
_NEGLIGIBLE = 1e-8
"""Largest eigenvalue of the Gramian that counts as zero, relative to the largest one, whose
rounding leaves too few correct digits in a smaller one."""


class IMTLG(CosineWeighting):
    """The update with equal projections on all gradients.

    Source: Liu et al. 2021 (IMTL-G), ICLR

    "Towards Impartial Multi-task Learning", Eq. 6: the combination u of the gradients with
    ``<u, g_i> / |g_i|`` the same for all i. With C the cosines:
    ``w_i = (pinv(C) 1)_i / |g_i|``, scaled so that the weights' absolute values add up to 1. The
    paper makes the weights themselves add up to 1, which is the same if none is negative;
    otherwise their sum can be zero, or negative, which reverses the update.

    If gradients depend on each other, the projections are made equal by least squares. Two
    opposite gradients get weight 0. The shortest gradient has the largest weight. Objectives' own
    weights do not change the direction.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        weights = _equal_projections(cosine) * (lengths.min() / lengths)
        return weights / weights.abs().sum().clamp(min=torch.finfo(torch.float64).tiny)


class ConFIG(CosineWeighting):
    """The update with equal projections on all gradients, and with the length of their sum.

    Liu et al. 2024, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
    arXiv:2408.11104, Eq. 2 and 3: the direction v of `IMTLG`, with the length
    ``sum_i <g_i, v> / |v|``. All weights are 0 if there is no such direction. Objectives' own
    weights do not change the direction.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        parts = _equal_projections(cosine)
        projections = cosine @ parts
        square = parts @ projections
        if square <= CANCELLED * parts.abs().sum() ** 2:
            return torch.zeros_like(lengths)
        return parts / lengths * (lengths @ projections) / square


def _equal_projections(cosine: Tensor) -> Tensor:
    """Return parts p, ``[M]``, with ``C p = 1``.

    Then ``sum_i p_i g_i / |g_i|`` has the projection 1 on every gradient. If the equations have
    no solution or several, the parts are the smallest by least squares.
    """
    inverse = torch.linalg.pinv(cosine, rtol=_DEPENDENT, hermitian=True)
    parts: Tensor = inverse.sum(1)
    return torch.where(parts.abs() > _DEPENDENT, parts, 0.0)


@dataclass
class AlignedMTL(CosineWeighting):
    """Make the gradients' principal components orthogonal and equally long, and take the mean.

    Senushkin et al. 2023, "Independent Component Alignment for Multi-Task Learning",
    arXiv:2305.19000, Algorithm 1: with ``G = V L V'`` the Gramian, ``B = sqrt(s) V L^(-1/2) V'``
    over eigenvalues that are not zero, and weights ``B 1 / M``. Weights can be negative.

    Zero gradients are left out, also of the mean. If norms differ by more than 1e4, the small
    gradients count as dependent on the large ones. An objective's own weight changes the norm of
    its gradient, and this rule evens norms out.

    Args:
        scale: The common eigenvalue s: the smallest (`min`, as in the paper), the `median`, or the
            mean (`rmse`, the default of the authors' code).
    """

    scale: Literal["min", "median", "rmse"] = "min"

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        relative = lengths / lengths.max()
        values, vectors = torch.linalg.eigh(relative[:, None] * cosine * relative[None, :])
        present = values > _NEGLIGIBLE * values.max()
        values, vectors = values[present], vectors[:, present]
        common = {"min": values.min(), "median": values.median(), "rmse": values.mean()}[self.scale]
        weights: Tensor = vectors @ ((common / values).sqrt() * vectors.mean(0))
        return weights


class NashMTL(CosineWeighting):
    """The update on which the objectives agree as bargainers.

    Navon et al. 2022, "Multi-Task Learning as a Bargaining Game", arXiv:2202.01017, Claim 3.1:
    weights ``w > 0`` with ``(G w)_i = 1 / w_i`` for all i. They are solved to rounding by Newton's
    method at every step (5 to 40 iterations on an ``[M, M]`` matrix), where the paper approximates.
    The update conflicts with no gradient.

    The update of the paper has the length 1 (`max_norm`) at every step; here its length is the
    geometric mean of the gradients' norms, so that it keeps their unit. That makes no difference to
    Adam. If gradients can cancel, there is no solution: the cosines get 1e-8 on their diagonal,
    and the update gets shorter. Objectives' own weights do not change the direction.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        # the vector of the parts has the length sqrt(M)
        length = lengths.log().mean().exp() / len(lengths) ** 0.5
        weights: Tensor = bargaining_parts(cosine) * length / lengths
        return weights
