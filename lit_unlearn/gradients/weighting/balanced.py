"""Balance: updates in which every objective counts alike, whatever its gradient's norm."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.gradients.diagnostics import CANCELLED
from lit_unlearn.gradients.weighting.base import CosineWeighting
from lit_unlearn.gradients.weighting.solvers import bargaining_parts

DEPENDENT = 1e-10
"""Eigenvalue of the cosines, relative to the largest, under which gradients count as dependent."""
NEGLIGIBLE = 1e-8
"""Eigenvalue of the Gramian, relative to the largest, that counts as zero: what is left of a
smaller one beside the rounding of the largest has too few digits."""


class IMTLG(CosineWeighting):
    """The update with equal projections on all gradients.

    Source: Liu et al. 2021 (IMTL-G), ICLR

    "Towards Impartial Multi-task Learning", Eq. 6: the combination
    u of the gradients with ``<u, g_i> / |g_i|`` the same for all i. With C the cosines:
    ``w_i = (pinv(C) 1)_i / |g_i|``, scaled so that the weights' absolute values add up to 1. The
    paper makes the weights themselves add up to 1, which is the same where none is negative;
    otherwise their sum can be zero, or negative and so turn the update round.

    Where gradients depend on each other, projections are as equal as can be (least squares). Two
    opposite gradients get weight 0. The shortest gradient has the largest weight. Objectives' own
    weights play no part in the direction.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        """See the class."""
        weights = equal_projections(cosine) * (lengths.min() / lengths)
        return weights / weights.abs().sum().clamp(min=torch.finfo(torch.float64).tiny)


class ConFIG(CosineWeighting):
    """The update with equal projections on all gradients, as long as its projections say.

    Liu et al. 2024, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
    arXiv:2408.11104, Eq. 2 and 3: the direction v of `IMTLG`, with the length
    ``sum_i <g_i, v> / |v|``. Zero weights where there is no such direction. Objectives' own weights
    play no part in the direction.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        """See the class."""
        parts = equal_projections(cosine)
        projections = cosine @ parts
        square = parts @ projections
        if square <= CANCELLED * parts.abs().sum() ** 2:
            return torch.zeros_like(lengths)
        return parts / lengths * (lengths @ projections) / square


def equal_projections(cosine: Tensor) -> Tensor:
    """Parts p with ``C p = 1``: ``sum_i p_i g_i / |g_i|`` has projection 1 on every gradient.

    Args:
        cosine: ``[M, M]``, float64: cosines of the gradients, none of which is zero.

    Returns:
        ``[M]``, float64; the smallest least-squares solution where there is none, or not only one.
    """
    inverse = torch.linalg.pinv(cosine, rtol=DEPENDENT, hermitian=True)
    parts: Tensor = inverse.sum(1)
    return torch.where(parts.abs() > DEPENDENT, parts, 0.0)


class AlignedMTL(CosineWeighting):
    """Makes the gradients' principal components orthogonal and equally long, then takes the mean.

    Senushkin et al. 2023, "Independent Component Alignment for Multi-Task Learning",
    arXiv:2305.19000, Algorithm 1: with ``G = V L V'`` the Gramian, ``B = sqrt(s) V L^(-1/2) V'``
    over eigenvalues that are not zero, and weights ``B 1 / M``. Weights can be negative.

    Zero gradients are left out, also of the mean. Where norms differ by more than 1e4, the small
    gradients count as dependent on the large ones. An objective's own weight changes the norm of
    its gradient, which is what this evens out.

    Args:
        scale: The common eigenvalue s: the smallest (`min`, as in the paper), the `median`, or the
            mean (`rmse`, the default of the authors' code).
    """

    def __init__(self, scale: Literal["min", "median", "rmse"] = "min") -> None:
        super().__init__()
        self.scale = scale

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        """See the class."""
        relative = lengths / lengths.max()
        values, vectors = torch.linalg.eigh(relative[:, None] * cosine * relative[None, :])
        present = values > NEGLIGIBLE * values.max()
        values, vectors = values[present], vectors[:, present]
        common = {"min": values.min(), "median": values.median(), "rmse": values.mean()}[self.scale]
        weights: Tensor = vectors @ ((common / values).sqrt() * vectors.mean(0))
        return weights


class NashMTL(CosineWeighting):
    """The update on which objectives would agree if they bargained over it.

    Navon et al. 2022, "Multi-Task Learning as a Bargaining Game", arXiv:2202.01017, Claim 3.1:
    weights ``w > 0`` with ``(G w)_i = 1 / w_i`` for all i, so that each objective gains in
    proportion to what its weight costs. Solved to rounding by Newton's method at every step, where
    the paper approximates; 5 to 40 steps on an ``[M, M]`` matrix. Conflicts with no gradient.

    The update of the paper has the length 1 (`max_norm`) at every step; here its length is the
    geometric mean of the gradients' norms, so that it keeps their unit. That makes no difference to
    Adam. Where gradients can cancel, there is no bargain: the cosines get 1e-8 on their diagonal,
    and the update gets shorter. Objectives' own weights play no part in the direction.
    """

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        """See `bargaining_parts`: their vector has the length sqrt(M)."""
        length = lengths.log().mean().exp() / len(lengths) ** 0.5
        weights: Tensor = bargaining_parts(cosine) * length / lengths
        return weights
