"""The effect of a small step for one objective on the loss of another, as a check of cosines.

To first order a step of length r along ``-g_i`` changes loss j by ``-r |g_j| cos(g_i, g_j)``: a
conflict is a step that raises the other loss. Here the step is taken, and the losses are measured.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.gradients.diagnostics import cosines, norms
from lit_unlearn.gradients.perturbation import perturbed

__all__ = ["first_order", "shared_gain", "transfer_matrix"]


def transfer_matrix(
    parameters: Sequence[Tensor],
    gradients: Sequence[Callable[[], Gradient]],
    losses: Sequence[Callable[[], float]],
    radius: float,
) -> Tensor:
    """Measure the change of every loss under a step for every objective.

    The functions return the gradients and losses of ``M`` objectives at the current weights. Each
    step has the 2-norm ``radius``, above 0. The weights are restored exactly. Only one gradient is
    in memory at a time.

    Returns:
        ``[M, M]``, float64: entry i, j is loss j after a step of this length along ``-g_i``, minus
            loss j before. Negative: the step for i helps j. Rows of zero gradients are 0.
    """
    if radius <= 0 or len(gradients) != len(losses):
        raise ValueError(
            "Parameter `radius` should be above 0, and `losses` have as many entries as "
            f"`gradients`. Found {radius}, {len(losses)} and {len(gradients)}."
        )
    before = torch.tensor([loss() for loss in losses], dtype=torch.float64)
    rows = []
    for gradient in gradients:
        with perturbed(parameters, gradient(), -radius):
            rows.append(torch.tensor([loss() for loss in losses], dtype=torch.float64) - before)
    return torch.stack(rows) if rows else before.new_zeros((0, 0))


def first_order(gramian: Tensor, radius: float) -> Tensor:
    """Return the transfer matrix of linear losses, ``[M, M]``: ``-r <g_i, g_j> / |g_i|``.

    It is NaN if one of the two gradients is zero.
    """
    return -radius * cosines(gramian) * norms(gramian)[None, :]


def shared_gain(transfer: Tensor) -> Tensor:
    """Return the gain of j from a step for i, divided by its gain from an equal step for j.

    To first order this is the cosine: 1 if the two agree, 0 if they are independent, negative if a
    step for i raises the loss j. The diagonal is 1. A column is NaN if the step for its
    objective does not lower that objective's loss.
    """
    own = transfer.double().diagonal(dim1=-2, dim2=-1)
    return transfer.double() / torch.where(own < 0, own, torch.nan)[..., None, :]
