"""Constraints: objectives whose loss must stay below a limit, rather than fall."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting.loss_based import LossWeighting


class DualAscent(LossWeighting):
    """Holds losses below limits ("retain may not get worse") and lowers the others.

    Minimise the other losses subject to ``L_i <= limit_i``, by the primal-dual rule of Entesari et
    al. 2025 (PDU), arXiv:2506.05314: the factor of a constrained objective is its dual variable,
    which becomes ``max(0, factor + step_size (L_i - limit_i))`` after each step; other objectives
    have the factor 1. A loss above its limit gains weight until it is below; one below its limit
    loses weight, down to none. The objective's own weight multiplies the factor.

    The limit is a number, or null for the mean loss of the first `reference_steps` steps plus
    `slack`; until it is known the factor stays where it began. Single batches are noisy: the rule
    sums the differences up, and a large `step_size` makes the factor swing.

    Args:
        limits: By name of the objective: its limit in the unit of its loss, or null.
        step_size: Change of the factor per unit of loss and step; 1 is the default of PDU's code.
        slack: How much worse than at the start a loss with the limit null may be.
        reference_steps: Steps over which the loss at the start is averaged.
        initial: Factor of the constrained objectives at the start.
        largest: Upper bound of the factors, so that a limit that cannot be met does not take over.
    """

    def __init__(
        self,
        limits: dict[str, float | None],
        step_size: float = 1.0,
        slack: float = 0.0,
        reference_steps: int = 10,
        initial: float = 1.0,
        largest: float = 100.0,
    ) -> None:
        super().__init__()
        if step_size <= 0 or reference_steps < 1 or not 0 <= initial <= largest:
            raise InputError(
                "Parameters of DualAscent should satisfy step_size > 0, reference_steps >= 1 and "
                f"0 <= initial <= largest. Found {step_size}, {reference_steps}, {initial} and "
                f"{largest}."
            )
        self.limits = dict(limits)
        self.step_size = step_size
        self.slack = slack
        self.reference_steps = reference_steps
        self.initial = initial
        self.largest = largest
        self.duals: dict[str, float] = {}
        self.references: dict[str, list[float]] = {}

    def bind(self, names: Sequence[str]) -> None:
        """Take the names of the objectives, in the order of the losses.

        Raises:
            InputError: There is no limit, or a limit for something that is not an objective.
        """
        unknown = [name for name in self.limits if name not in names]
        if unknown or not self.limits:
            raise InputError(
                "Parameter `limits` of DualAscent should have names of objectives "
                f"({', '.join(names)}) as keys. Found: {', '.join(unknown) or 'no key'}."
            )
        super().bind(names)

    def factors(self) -> Tensor:
        return torch.tensor([self._factor(name) for name in self.names], dtype=torch.float64)

    def update(self, losses: Tensor) -> None:
        for name, loss in zip(self.names, losses.tolist(), strict=True):
            if name in self.limits and loss == loss:  # NaN: no rows in this step
                self._update_one(name, loss)

    def _factor(self, name: str) -> float:
        return self.duals.get(name, self.initial) if name in self.limits else 1.0

    def _update_one(self, name: str, loss: float) -> None:
        limit = self.limits[name]
        if limit is None:
            seen = self.references.setdefault(name, [])
            if len(seen) < self.reference_steps:
                seen.append(loss)
                return
            limit = sum(seen) / len(seen) + self.slack
        ascended = dual_step(self._factor(name), loss, limit, self.step_size)
        self.duals[name] = min(ascended, self.largest)

    def get_extra_state(self) -> dict[str, Any]:
        return deepcopy({"duals": self.duals, "references": self.references})

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.duals, self.references = deepcopy(state["duals"]), deepcopy(state["references"])


def dual_step(dual: float, loss: float, limit: float, step_size: float) -> float:
    """One step of projected gradient ascent on a dual variable.

    Args:
        dual: The variable, at least 0.
        loss: The constrained loss.
        limit: What it may be at most.
        step_size: Change per unit of loss.

    Returns:
        ``max(0, dual + step_size (loss - limit))``.
    """
    return max(0.0, dual + step_size * (loss - limit))
