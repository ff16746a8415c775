"""Measures of the interference of objectives: pure functions of the Gramian ``[M, M]``.

Numerics. All arithmetic is in float64. A gradient counts as zero when its squared norm is below the
smallest normal number (norm below 1.5e-154). The threshold is not larger, since gradients of 1e-10
and 1e10 may occur in one Gramian and both have a direction. An update counts as zero when its
squared norm is below `CANCELLED` times the value for parts that all point the same way: below that,
the rest of the cancellation is rounding. Cosines are clamped into [-1, 1]. Non-finite gradients
give NaN.

Rest. The gradient of an objective that distils from the start model is only rounding on that model,
and its direction means nothing. Figures that are shown, in training and in
`lit-unlearn interference`, leave such gradients out (`at_rest`, `without`). The threshold is
relative to the largest gradient of the same Gramian, since rounding grows with the precision's
error. Weightings get the Gramian as it was measured.
"""

import torch
from torch import Tensor

__all__ = ["AT_REST", "AT_REST_HALF", "CANCELLED", "RESTING_NORM"]
__all__ += ["at_rest", "conflict_rate", "cosines", "is_zero", "norms", "update_cosines"]
__all__ += ["update_norm", "without"]

CANCELLED = 1e-12
"""Relative squared norm below which a combined update counts as zero."""
AT_REST = 1e-5
"""Share of the largest norm below which a gradient is rounding, in float32."""
AT_REST_HALF = 0.05
"""The same share for forward passes in bfloat16: objectives at rest on SmolLM2-135M had 0.5 to
4.3 % of the largest norm (the error of a logit of 20 is up to 0.06), and more later in training."""
RESTING_NORM = 1e-6
"""Norm below which a gradient is rounding, for Gramians whose objectives are all at rest."""


def norms(gramian: Tensor) -> Tensor:
    """Return the 2-norms of the gradients, ``[..., M]``, float64."""
    return gramian.double().diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()


def is_zero(gramian: Tensor) -> Tensor:
    """Return which gradients are zero and have no direction, ``[..., M]``; NaN is not zero."""
    squares = gramian.double().diagonal(dim1=-2, dim2=-1)
    return squares < torch.finfo(torch.float64).tiny


def at_rest(gramian: Tensor, share: float = AT_REST) -> Tensor:
    """Return which gradients are rounding, ``[..., M]``, so that their cosines mean nothing.

    A gradient is at rest below ``share`` of the largest finite norm, or below `RESTING_NORM`. One
    with NaN or infinity is not.
    """
    sizes = norms(gramian)
    largest = sizes.masked_fill(~sizes.isfinite(), 0.0).amax(dim=-1, keepdim=True)
    return sizes < (share * largest).clamp(min=RESTING_NORM)


def without(gramian: Tensor, out: Tensor) -> Tensor:
    """Return the Gramian with some gradients (``[..., M]``, bool) set to zero."""
    return gramian.masked_fill(out[..., :, None] | out[..., None, :], 0.0)


def cosines(gramian: Tensor) -> Tensor:
    """Return the cosine of each pair of gradients, ``[..., M, M]``; a negative one is a conflict.

    It is NaN wherever one of the two gradients is zero; elsewhere the diagonal is 1.
    """
    lengths = norms(gramian).masked_fill(is_zero(gramian), torch.nan)
    cosine = (gramian.double() / (lengths[..., :, None] * lengths[..., None, :])).clamp(-1, 1)
    diagonal = torch.where(lengths.isfinite(), 1.0, torch.nan)
    return cosine.diagonal_scatter(diagonal, dim1=-2, dim2=-1)


def conflict_rate(gramian: Tensor) -> float:
    """Return the share of negative cosines among the pairs without a zero gradient, or 0."""
    above = torch.ones_like(gramian, dtype=torch.bool).triu(diagonal=1)
    pairs = cosines(gramian)[above]
    pairs = pairs[~pairs.isnan()]
    return float((pairs < 0).double().mean()) if len(pairs) else 0.0


def update_norm(gramian: Tensor, weights: Tensor) -> Tensor:
    """Return the 2-norm of the update ``u = sum_j w_j g_j``, that is ``sqrt(w' G w)``.

    If the parts cancel, it is exact to 1e-8 of their size.
    """
    weights = weights.to(gramian.device, torch.float64)
    return (weights @ gramian.double() @ weights).clamp(min=0).sqrt()


def update_cosines(gramian: Tensor, weights: Tensor) -> Tensor:
    """Return the cosine of each gradient with the update ``u = sum_j w_j g_j``, ``[M]``.

    It is ``(G w)_i / (|g_i| |u|)``; NaN for a zero gradient, and for all when the update is zero. A
    step along ``-u`` lowers, to first order, exactly the objectives with a positive value.
    """
    cosine = cosines(gramian)
    parts = weights.to(gramian.device, torch.float64) * norms(gramian)  # in units of g_j / |g_j|
    parts = parts / parts.abs().max()
    known = torch.where(is_zero(gramian)[:, None] | is_zero(gramian)[None, :], 0.0, cosine)
    projections = known @ parts
    square = parts @ projections
    if square <= CANCELLED * parts.abs().sum() ** 2:
        return torch.full_like(projections, torch.nan)
    return (projections / square.sqrt()).clamp(-1, 1).masked_fill(is_zero(gramian), torch.nan)
