"""Surgery: correct each gradient against every other one, then add them up."""

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.gradients.diagnostics import CANCELLED, cosines, norms
from lit_unlearn.gradients.weighting.base import (
    CosineWeighting,
    Weighting,
    alive_rows,
    not_a_number,
)

__all__ = ["ALL_ORDERS_UP_TO", "LARGEST_TARGET", "GradVac", "PCGrad", "vaccine_weights"]

ALL_ORDERS_UP_TO = 7
"""Largest number of objectives for which all orders are averaged: 7 * 6! rows of 7 numbers."""
LARGEST_TARGET = 0.999
"""Largest target cosine of `GradVac`: a weight grows without bound as its target nears 1."""


class PCGrad(CosineWeighting):
    """Project each gradient onto the normal plane of every other in conflict with it, and add.

    Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", arXiv:2001.06782, Algorithm 1:
    starting from g_i' = g_i, for one other objective j after the other, where
    ``<g_i', g_j> < 0``: g_i' -= ``<g_i', g_j> / |g_j|^2`` g_j with the original g_j. The update is
    the sum of the g_i'. With two objectives it conflicts with neither; with more it may.

    The paper draws the order of the others at random. Here the weights are the average over all
    orders, which is the expectation of the paper's update and needs no generator. Beyond 7
    objectives the average is over the rotations of one order and of its reverse: the others
    sorted by their cosine with g_i. A zero gradient has weight 1, which has no effect.
    """

    zero_weight = 1.0

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        return _projection_weights(cosine, lengths)


def _projection_weights(cosine: Tensor, lengths: Tensor) -> Tensor:
    """Return the weights of the original gradients in the sum of the projected ones, at least 1."""
    starts, orders = _orders(cosine)
    # Coefficients of the g_j / |g_j| in g_i' / |g_i|: one row per start i and order.
    rows = torch.eye(len(cosine), dtype=torch.float64)[starts]
    for others in orders.unbind(1):
        inner = (cosine[others] * rows).sum(1, keepdim=True)
        rows.scatter_add_(1, others[:, None], -inner.clamp(max=0))
    return _sum_of(rows, starts, lengths)


@dataclass
class GradVac(Weighting):
    """Turn gradients towards each other until their cosines reach the usual one of the pair.

    Wang et al. 2021, "Gradient Vaccine", arXiv:2010.05874, Algorithm 1: as `PCGrad`, but a pair has
    a target cosine t, which starts at 0 and follows the measured cosines. If the cosine c of
    g_i' and g_j is below t, g_i' gets the share
    ``|g_i'| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2))`` of g_j, after which the
    cosine is t. After each pair: t becomes ``(1 - beta) t + beta c``. The update is the sum of the
    g_i'. With all targets at 0, as in the first step, this is `PCGrad`.

    Instead of drawing one order of the others, weights and measured cosines are averaged over
    orders, as in `PCGrad`. Targets are saved in checkpoints. They hold for all parameters, not per
    layer. A target above .999 counts as .999; a pair with a zero gradient keeps its target.

    Args:
        beta: Share of the latest cosine in the new target, 0 to 1; 0 is `PCGrad`, and 0.5 is the
            default of LibMTL.
    """

    learnt = ("targets",)
    beta: float = ranged(0.5, 0, 1)
    targets: Tensor | None = field(default=None, init=False)

    def __call__(self, gramian: Tensor) -> Tensor:
        """Return the weights, and move the targets, which must be those of as many objectives."""
        if not gramian.isfinite().all():
            return not_a_number(gramian)
        if self.targets is None:
            self.targets = torch.zeros(gramian.shape, dtype=torch.float64)
        if len(gramian) != len(self.targets):
            raise InputError(
                f"Parameter `weighting`: GradVac should get the {len(self.targets)} objectives for "
                f"which it has targets. Found {len(gramian)}. Resume with the objectives of the "
                "checkpoint."
            )
        weights = torch.ones(len(gramian), dtype=torch.float64)
        alive = alive_rows(gramian)
        if len(alive):
            nonzero = gramian.cpu()[alive][:, alive]
            pairs = (alive[:, None], alive[None, :])
            targets = self.targets[pairs]
            weights[alive], seen = vaccine_weights(cosines(nonzero), norms(nonzero), targets)
            self.targets[pairs] = (1 - self.beta) * targets + self.beta * seen
        return weights.to(gramian.device)


def vaccine_weights(cosine: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of the original gradients in the corrected sum, and the measured cosines.

    ``targets`` (``[M, M]``) are the target cosines of the corrected i with j. The measured cosine
    of the corrected i with j, before it is corrected for j, is a mean over the orders, and the
    target if g_i' has vanished.
    """
    starts, orders = _orders(cosine)
    rows = torch.eye(len(cosine), dtype=torch.float64)[starts]
    seen = torch.zeros_like(targets)
    for others in orders.unbind(1):
        square = ((rows @ cosine) * rows).sum(1)
        present = square > CANCELLED * rows.abs().sum(1) ** 2
        length = square.clamp(min=0).sqrt()
        inner = (cosine[others] * rows).sum(1)
        usual = targets[starts, others]
        found = torch.where(present, (inner / length).clamp(-1, 1), usual)
        goal = usual.clamp(-LARGEST_TARGET, LARGEST_TARGET)
        share = length * (goal * _sine(found) / _sine(goal) - found)
        share = torch.where(present & (found < goal), share, 0.0)
        rows.scatter_add_(1, others[:, None], share[:, None])
        seen.index_put_((starts, others), found, accumulate=True)
    return _sum_of(rows, starts, lengths), seen * (len(cosine) / len(rows))


def _sine(cosine: Tensor) -> Tensor:
    return (1 - cosine**2).clamp(min=0).sqrt()


def _sum_of(rows: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the weights of the g_j in the sum over i of ``|g_i|`` times the mean row of i."""
    scale = lengths[starts][:, None] / lengths[None, :]
    return (rows * scale).sum(0) * (len(lengths) / len(rows))


def _orders(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Return each start i with each order of the others: ``[R]`` and ``[R, M - 1]``, int64."""
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
