"""RepSelect's filter: what a matrix's gradient shares with much else is taken out of it."""

import torch
from torch import Tensor

__all__ = ["collapsed"]

_NOISE = 1e-6
"""Singular values below this share of the largest one are rounding errors."""


@torch.no_grad()
def collapsed(gradient: Tensor, components: int) -> Tensor:
    """Return a gradient, ``[m, n]``, with its largest singular values collapsed.

    Sondej, Yang and Mahdi 2026 (RepSelect), arXiv 2606.17168; as `_collapse` (soft, both sides) of
    filyp/RepSelect@5955f30. With ``G = sum_i s_i u_i v_i^T`` and s the smallest of its k largest
    singular values, the components of these k are divided by ``s_i / s``, once on the side of the
    inputs and once on that of the outputs. So ``s_i`` becomes ``s^2 / s_i``, and the others stay.

    A gradient of lower rank than ``components`` counts with the components that it has. The work is
    one eigenvalue decomposition of the size of the shorter side.
    """
    wide = gradient.shape[0] < gradient.shape[1]
    tall = (gradient.mT if wide else gradient).float()
    values, vectors = torch.linalg.eigh(tall.double().mT @ tall.double())
    values = values.clamp(min=0)  # ascending squares of the singular values
    count = min(components, int((values > values[-1] * _NOISE**2).sum()))
    if not count:
        return gradient.clone()
    values, vectors = values[-count:], vectors[:, -count:].to(tall.dtype)
    factors = (values[0] / values - 1).to(tall.dtype)  # s^2 / s_i^2 - 1
    filtered = tall + (tall @ vectors * factors) @ vectors.mT
    return (filtered.mT if wide else filtered).to(gradient.dtype)
