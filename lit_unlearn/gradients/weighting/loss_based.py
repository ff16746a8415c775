"""Weights of objectives from their losses: set before a step, and changed after it.

A loss weighting gives each objective a factor besides its own weight; a `Weighting` then gets
gradients with both. Losses are ``[M]``, float64, with NaN for an objective without rows in the
step; the factor of that objective is unchanged.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, check_number, ranged
from lit_unlearn.gradients.weighting.base import Rule

__all__ = ["DualAscent", "DynamicWeightAverage", "LossWeighting", "UncertaintyWeighting"]
__all__ += ["dual_step", "dynamic_weights", "uncertainty_step"]


class LossWeighting(Rule, ABC):
    """Factors of the objectives' weights, learnt from their losses."""

    @abstractmethod
    def factors(self) -> Tensor:
        """Return ``[M]``, float64, on the CPU: the factors for the next step."""

    @abstractmethod
    def update(self, losses: Tensor) -> None:
        """Learn from the unweighted losses of a step (``[M]``, float64, CPU; NaN without rows)."""


@dataclass
class UncertaintyWeighting(LossWeighting):
    """Learn a factor near 1 / loss for each objective, so that all weigh alike.

    Kendall, Gal and Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses",
    arXiv:1705.07115, Eq. 7, with the log variance s_i learnt as in its Section 3.2: minimise
    ``sum_i exp(-s_i) L_i + s_i`` over s as well. The factor is ``exp(-s_i)``; s starts at 0 and
    takes a gradient step after each training step. (The paper's common factor 1/2 is left out.)

    For losses that are never negative. A loss that training brings to 0 takes its factor to
    `largest`, so this does not suit distillation losses, which start near 0.

    Args:
        learning_rate: Step size of the log variances, per training step.
        largest: Bound of the factors: between 1 / largest and largest.
    """

    learnt = ("log_variances",)
    learning_rate: float = ranged(0.01, 0, above=True)
    largest: float = ranged(100.0, 1, above=True)
    log_variances: Tensor | None = field(default=None, init=False)

    def _current(self) -> Tensor:
        if self.log_variances is None:
            self.log_variances = torch.zeros(len(self.names), dtype=torch.float64)
        return self.log_variances

    def factors(self) -> Tensor:
        return (-self._current()).exp()

    def update(self, losses: Tensor) -> None:
        _check_not_negative(self, losses)
        moved = uncertainty_step(self._current(), losses, self.learning_rate)
        limit = torch.tensor(self.largest, dtype=torch.float64).log()
        self.log_variances = moved.clamp(-limit, limit)


def uncertainty_step(log_variances: Tensor, losses: Tensor, learning_rate: float) -> Tensor:
    """Take one gradient step of ``sum_i exp(-s_i) L_i + s_i`` over s, each ``[M]``.

    The s of a NaN loss is unchanged.
    """
    slope = 1 - (-log_variances).exp() * losses
    return log_variances - learning_rate * slope.nan_to_num(0.0)


@dataclass
class DynamicWeightAverage(LossWeighting):
    """More weight for objectives whose loss falls slowly.

    Liu, Johns and Davison 2019, "End-to-End Multi-Task Learning with Attention", arXiv:1803.10704,
    Eq. 7 (DWA): with r_i the ratio of the objective's mean loss in the last window of steps to that
    in the window before, the factors are ``M softmax(r / temperature)``; they add up to M. The
    paper's windows are epochs. In the first two windows all factors are 1; an objective without
    rows in a window, or with a loss of 0, has the ratio 1. For losses that are never negative.

    Args:
        temperature: Larger is more even; 2 is the paper's.
        window: Steps over which losses are averaged, at least 1.
    """

    learnt = ("recent", "means")
    temperature: float = ranged(2.0, 0, above=True)
    window: int = ranged(20, 1)
    recent: list[list[float]] = field(default_factory=list, init=False)
    means: list[list[float]] = field(default_factory=list, init=False)

    def factors(self) -> Tensor:
        if len(self.means) < 2:
            return torch.ones(len(self.names), dtype=torch.float64)
        before, latest = torch.tensor(self.means, dtype=torch.float64)
        return dynamic_weights(latest, before, self.temperature)

    def update(self, losses: Tensor) -> None:
        _check_not_negative(self, losses)
        self.recent.append(losses.tolist())
        if len(self.recent) == self.window:
            mean = torch.tensor(self.recent, dtype=torch.float64).nanmean(0)
            self.means = [*self.means[-1:], mean.tolist()]
            self.recent = []


def dynamic_weights(latest: Tensor, before: Tensor, temperature: float) -> Tensor:
    """Return ``M softmax(latest / before / temperature)`` of two windows' mean losses, ``[M]``.

    A ratio is 1 if a loss is missing or 0.
    """
    ratio = torch.where((before > 0) & latest.isfinite(), latest / before, 1.0)
    return len(ratio) * (ratio / temperature).softmax(0)


@dataclass
class DualAscent(LossWeighting):
    """Hold losses below limits ("retain may not get worse") and lower the others.

    Minimise the other losses subject to ``L_i <= limit_i``, by the primal-dual rule of Entesari et
    al. 2025 (PDU), arXiv:2506.05314: the factor of a constrained objective is its dual variable,
    which becomes ``max(0, factor + step_size (L_i - limit_i))`` after each step; other objectives
    have the factor 1. A loss above its limit gains weight until it is below; one below its limit
    loses weight, down to none. The objective's own weight multiplies the factor.

    The limit is a number, or null for the mean loss of the first `reference_steps` steps plus
    `slack`; until it is known the factor keeps its initial value. Single batches are noisy: the
    rule sums the differences up, and a large `step_size` makes the factor swing.

    Args:
        limits: By name of the objective: its limit in the unit of its loss, or null.
        step_size: Change of the factor per unit of loss and step; 1 is the default of PDU's code.
        slack: Amount by which a loss with the limit null may be worse than at the start.
        reference_steps: Steps over which the loss at the start is averaged.
        initial: Factor of the constrained objectives at the start.
        largest: Upper bound of the factors, for limits that cannot be met.
    """

    learnt = ("duals", "references")
    limits: dict[str, float | None]
    step_size: float = ranged(1.0, 0, above=True)
    slack: float = 0.0
    reference_steps: int = ranged(10, 1)
    initial: float = 1.0
    largest: float = 100.0
    duals: dict[str, float] = field(default_factory=dict, init=False)
    references: dict[str, list[float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("DualAscent.initial", self.initial, 0, self.largest)

    def bind(self, names: Sequence[str]) -> None:
        unknown = [name for name in self.limits if name not in names]
        if unknown or not self.limits:
            raise InputError(
                "Parameter `DualAscent.limits` should have names of objectives "
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


def dual_step(dual: float, loss: float, limit: float, step_size: float) -> float:
    """Return ``max(0, dual + step_size (loss - limit))``, projected gradient ascent on the dual."""
    return max(0.0, dual + step_size * (loss - limit))


def _check_not_negative(weighting: LossWeighting, losses: Tensor) -> None:
    """Check that no loss is below 0, or raise an `InputError`."""
    low = [name for name, loss in zip(weighting.names, losses.tolist(), strict=True) if loss < 0]
    if low:
        raise InputError(
            f"{type(weighting).__name__} should get losses that are never negative. Found a "
            f"negative loss of objective {low[0]!r}. Use an objective whose loss has a lower bound "
            "of 0, or no loss weighting."
        )
