"""What a Gramian tells about the interference of objectives: pure functions of ``[M, M]``.

Numerics, the same everywhere. All arithmetic is in float64. A gradient counts as zero when its
squared norm is below the smallest normal number (norm below 1.5e-154); no larger threshold, since
gradients of 1e-10 and 1e10 may meet in one Gramian and both have a direction. An update counts as
zero when its squared norm is below `CANCELLED` times what its parts would give if they all pointed
the same way: below that, what is left of the cancellation is rounding. Cosines are clamped into
[-1, 1]. Non-finite gradients give NaN.

Rest. An objective that distils from the start model has no gradient on that model but rounding,
whose direction means nothing. Where figures are shown to people, in training and in
`lit-unlearn interference`, such gradients are taken out first (`at_rest`, `without`). The threshold
is relative to the largest gradient of the same Gramian, since what the others leave in rounding
grows with the precision's error. No weighting does this: it gets what was measured.
"""

from __future__ import annotations

import torch
from torch import Tensor

CANCELLED = 1e-12
"""Relative squared norm under which a combined update is taken to be zero."""
AT_REST = 1e-5
"""A gradient of less than this share of the largest one is rounding, in float32."""
AT_REST_HALF = 0.05
"""The same where forward passes run in bfloat16: objectives at rest on SmolLM2-135M had 0.5
to 4.3 % of the largest norm (a logit of 20 is off by up to 0.06), and a multiple of that later."""
RESTING_NORM = 1e-6
"""The same for the norm itself: where all objectives are at rest, the largest one is rounding."""


def norms(gramian: Tensor) -> Tensor:
    """2-norms of the gradients.

    Args:
        gramian: ``[..., M, M]``.

    Returns:
        ``[..., M]``, float64.
    """
    return gramian.double().diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()


def is_zero(gramian: Tensor) -> Tensor:
    """Which gradients are zero, and so have no direction.

    Args:
        gramian: ``[..., M, M]``.

    Returns:
        ``[..., M]``, bool. A gradient with NaN is not zero.
    """
    squares = gramian.double().diagonal(dim1=-2, dim2=-1)
    return squares < torch.finfo(torch.float64).tiny


def at_rest(gramian: Tensor, share: float = AT_REST) -> Tensor:
    """Which gradients are rounding: their cosines mean nothing.

    Args:
        gramian: ``[..., M, M]``, of the whole model.
        share: Of the largest finite norm; below it, or below `RESTING_NORM`, a gradient is at rest.

    Returns:
        ``[..., M]``, bool. A gradient with NaN or infinity is not at rest.
    """
    sizes = norms(gramian)
    largest = sizes.masked_fill(~sizes.isfinite(), 0.0).amax(dim=-1, keepdim=True)
    return sizes < (share * largest).clamp(min=RESTING_NORM)


def without(gramian: Tensor, out: Tensor) -> Tensor:
    """The Gramian with some gradients set to zero, so that they have no cosine.

    Args:
        gramian: ``[..., M, M]``, of the whole model or of a layer group.
        out: ``[..., M]``, bool.
    """
    return gramian.masked_fill(out[..., :, None] | out[..., None, :], 0.0)


def cosines(gramian: Tensor) -> Tensor:
    """Cosine of each pair of gradients; a negative one is a conflict.

    Args:
        gramian: ``[..., M, M]``.

    Returns:
        ``[..., M, M]``, float64, in [-1, 1]. The diagonal is 1. NaN wherever one of the two
        gradients is zero, on the diagonal too.
    """
    lengths = norms(gramian).masked_fill(is_zero(gramian), torch.nan)
    cosine = (gramian.double() / (lengths[..., :, None] * lengths[..., None, :])).clamp(-1, 1)
    diagonal = torch.where(lengths.isfinite(), 1.0, torch.nan)
    return cosine.diagonal_scatter(diagonal, dim1=-2, dim2=-1)


def conflict_rate(gramian: Tensor) -> float:
    """Share of pairs of gradients with a negative cosine, among pairs without a zero gradient.

    Args:
        gramian: ``[M, M]``.

    Returns:
        0 to 1; 0 when no pair has two non-zero gradients.
    """
    above = torch.ones_like(gramian, dtype=torch.bool).triu(diagonal=1)
    pairs = cosines(gramian)[above]
    pairs = pairs[~pairs.isnan()]
    return float((pairs < 0).double().mean()) if len(pairs) else 0.0


def update_norm(gramian: Tensor, weights: Tensor) -> Tensor:
    """2-norm of the update ``u = sum_j w_j g_j``, that is ``sqrt(w' G w)``.

    Args:
        gramian: ``[M, M]``.
        weights: ``[M]``.

    Returns:
        Scalar, float64. Where the parts cancel, no more exact than 1e-8 of their size.
    """
    weights = weights.to(gramian.device, torch.float64)
    return (weights @ gramian.double() @ weights).clamp(min=0).sqrt()


def update_cosines(gramian: Tensor, weights: Tensor) -> Tensor:
    """Cosine of each gradient with the update ``u = sum_j w_j g_j``: ``(G w)_i / (|g_i| |u|)``.

    A step along ``-u`` lowers (to first order) exactly the objectives with a positive value here.

    Args:
        gramian: ``[M, M]``.
        weights: ``[M]``.

    Returns:
        ``[M]``, float64, in [-1, 1]; NaN for a zero gradient, and for all when the update is zero.
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
