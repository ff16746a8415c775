"""Surgery: each gradient is corrected against every other one, then all are added."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.diagnostics import CANCELLED, cosines, norms
from lit_unlearn.gradients.weighting.base import (
    CosineWeighting,
    Weighting,
    alive_rows,
    not_a_number,
)

ALL_ORDERS_UP_TO = 7
"""Most objectives for which all orders are gone through: 7 * 6! rows of 7 numbers."""
LARGEST_TARGET = 0.999
"""Largest cosine at which `GradVac` aims: a weight grows without bound as its target nears 1."""


class PCGrad(CosineWeighting):
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

    zero_weight = 1.0

    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        return projection_weights(cosine, lengths)


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
    return _sum_of(rows, starts, lengths)


class GradVac(Weighting):
    """Turns gradients towards each other until their cosines reach what is usual for the pair.

    Wang et al. 2021, "Gradient Vaccine", arXiv:2010.05874, Algorithm 1: as `PCGrad`, but a pair has
    a target cosine t, which starts at 0 and follows the cosines that were seen. Where the cosine c
    of g_i' and g_j is below t, g_i' gets the share
    ``|g_i'| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2))`` of g_j, after which the
    cosine is t. After each pair: t becomes ``(1 - beta) t + beta c``. The update is the sum of the
    g_i'. With all targets at 0, as in the first step, this is `PCGrad`.

    Instead of drawing one order of the others, weights and seen cosines are averaged over orders,
    as `PCGrad` does. Targets are kept in checkpoints. They are taken over all parameters, not per
    layer. A target above .999 is taken as .999; a pair with a zero gradient keeps its target.

    Args:
        beta: How fast the targets follow, 0 to 1; 0.5 is the default of LibMTL. 0 is `PCGrad`.
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise InputError(
                f"Parameter `beta` of GradVac should be between 0 and 1. Found {beta}."
            )
        self.beta = beta
        self.targets: Tensor | None = None  # no buffer: modules are cast to half precision

    def forward(self, gramian: Tensor) -> Tensor:
        """See `Weighting.forward`. Each call moves the targets."""
        if not gramian.isfinite().all():
            return not_a_number(gramian)
        if self.targets is None:
            self.targets = torch.zeros(gramian.shape, dtype=torch.float64)
        self._check_count(len(gramian), len(self.targets))
        weights = torch.ones(len(gramian), dtype=torch.float64)
        alive = alive_rows(gramian)
        if len(alive):
            nonzero = gramian.cpu()[alive][:, alive]
            pairs = (alive[:, None], alive[None, :])
            targets = self.targets[pairs]
            weights[alive], seen = vaccine_weights(cosines(nonzero), norms(nonzero), targets)
            self.targets[pairs] = (1 - self.beta) * targets + self.beta * seen
        return weights.to(gramian.device)

    def _check_count(self, found: int, expected: int) -> None:
        if found != expected:
            raise InputError(
                f"Parameter `weighting`: GradVac should get the {expected} objectives that it has "
                f"targets for. Found {found}. Resume with the objectives of the checkpoint."
            )

    def get_extra_state(self) -> dict[str, Any]:
        """The targets, for checkpoints."""
        targets = None if self.targets is None else self.targets.clone()
        return {"names": self.names, "targets": targets}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes the targets from a checkpoint."""
        self.check_saved(state["names"])
        targets = state["targets"]
        self.targets = None if targets is None else targets.to("cpu", torch.float64, copy=True)


def vaccine_weights(cosine: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the original gradients in the sum of the corrected ones, and the cosines seen.

    Args:
        cosine: ``[M, M]``, float64: cosines of the gradients, none of which is zero.
        lengths: ``[M]``, float64: their norms.
        targets: ``[M, M]``, float64: target cosine of the corrected i with j.

    Returns:
        ``[M]``, float64, all at least 1; ``[M, M]``, float64: the cosine of the corrected i with j,
        before it is corrected for j, mean over the orders. Where g_i' has vanished: the target.
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
    """Weights of the g_j in the sum over i of the mean over orders of ``|g_i|`` times the row."""
    scale = lengths[starts][:, None] / lengths[None, :]
    return (rows * scale).sum(0) * (len(lengths) / len(rows))


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
