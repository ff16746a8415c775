"""Weights of objectives from their losses: they are set before a step, and moved after it.

A loss weighting gives each objective a factor beside its own weight; a `Weighting` then sees
gradients that carry both. Losses come as ``[M]``, float64, NaN for an objective without rows in
the step; that objective is left as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting.base import Named


class LossWeighting(Named, ABC):
    """Factors of the objectives' weights, learnt from their losses."""

    @abstractmethod
    def factors(self) -> Tensor:
        """``[M]``, float64, on the CPU: the factors for the next step."""

    @abstractmethod
    def update(self, losses: Tensor) -> None:
        """Learn from a step.

        Args:
            losses: ``[M]``, float64, on the CPU: each objective's unweighted loss in the step, NaN
                where it had no rows.
        """

    # State is plain tensors, no buffers: modules are cast to half precision as a whole.

    @abstractmethod
    def get_extra_state(self) -> dict[str, Any]:
        """What a resumed run needs, for checkpoints."""

    @abstractmethod
    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_extra_state` gave."""


class UncertaintyWeighting(LossWeighting):
    """Learns a factor near 1 / loss for each objective, so that all weigh alike.

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

    def __init__(self, learning_rate: float = 0.01, largest: float = 100.0) -> None:
        super().__init__()
        _check_above("UncertaintyWeighting", "learning_rate", learning_rate, 0.0)
        _check_above("UncertaintyWeighting", "largest", largest, 1.0)
        self.learning_rate = learning_rate
        self.largest = largest
        self.log_variances: Tensor | None = None

    def _current(self) -> Tensor:
        if self.log_variances is None:
            self.log_variances = torch.zeros(len(self.names), dtype=torch.float64)
        return self.log_variances

    def factors(self) -> Tensor:
        return (-self._current()).exp()

    def update(self, losses: Tensor) -> None:
        """See `LossWeighting.update`.

        Raises:
            InputError: A loss is negative.
        """
        check_not_negative(self, losses)
        moved = uncertainty_step(self._current(), losses, self.learning_rate)
        limit = torch.tensor(self.largest, dtype=torch.float64).log()
        self.log_variances = moved.clamp(-limit, limit)

    def get_extra_state(self) -> dict[str, Any]:
        return {"names": self.names, "log_variances": self.log_variances}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.check_saved(state["names"])
        self.log_variances = state["log_variances"]


def uncertainty_step(log_variances: Tensor, losses: Tensor, learning_rate: float) -> Tensor:
    """One gradient step of ``sum_i exp(-s_i) L_i + s_i`` over s.

    Args:
        log_variances: ``[M]``: s.
        losses: ``[M]``: L; NaN leaves s as it is.
        learning_rate: Step size.

    Returns:
        ``[M]``: ``s - learning_rate (1 - exp(-s) L)``.
    """
    slope = 1 - (-log_variances).exp() * losses
    return log_variances - learning_rate * slope.nan_to_num(0.0)


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

    def __init__(self, temperature: float = 2.0, window: int = 20) -> None:
        super().__init__()
        _check_above("DynamicWeightAverage", "temperature", temperature, 0.0)
        _check_above("DynamicWeightAverage", "window", window, 0)
        self.temperature = temperature
        self.window = window
        self.recent: list[list[float]] = []
        self.means: list[list[float]] = []

    def factors(self) -> Tensor:
        if len(self.means) < 2:
            return torch.ones(len(self.names), dtype=torch.float64)
        before, latest = torch.tensor(self.means, dtype=torch.float64)
        return dynamic_weights(latest, before, self.temperature)

    def update(self, losses: Tensor) -> None:
        """See `LossWeighting.update`.

        Raises:
            InputError: A loss is negative.
        """
        check_not_negative(self, losses)
        self.recent.append(losses.tolist())
        if len(self.recent) == self.window:
            mean = torch.tensor(self.recent, dtype=torch.float64).nanmean(0)
            self.means = [*self.means[-1:], mean.tolist()]
            self.recent = []

    def get_extra_state(self) -> dict[str, Any]:
        return {"names": self.names, "recent": list(self.recent), "means": list(self.means)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.check_saved(state["names"])
        self.recent, self.means = list(state["recent"]), list(state["means"])


def dynamic_weights(latest: Tensor, before: Tensor, temperature: float) -> Tensor:
    """Factors of objectives from how fast their losses fall.

    Args:
        latest: ``[M]``: mean losses of the last window; NaN where there is none.
        before: ``[M]``: those of the window before.
        temperature: Larger is more even.

    Returns:
        ``[M]``: ``M softmax(latest / before / temperature)``.
    """
    ratio = torch.where((before > 0) & latest.isfinite(), latest / before, 1.0)
    return len(ratio) * (ratio / temperature).softmax(0)


def check_not_negative(weighting: LossWeighting, losses: Tensor) -> None:
    """Refuse losses below 0.

    Raises:
        InputError: A loss is negative.
    """
    low = [name for name, loss in zip(weighting.names, losses.tolist(), strict=True) if loss < 0]
    if low:
        raise InputError(
            f"{type(weighting).__name__} should get losses that are never negative. Found a "
            f"negative loss of objective {low[0]!r}. Use an objective whose loss has a lower bound "
            "of 0, or no loss weighting."
        )


def _check_above(cls: str, name: str, value: float, bound: float) -> None:
    if not value > bound:
        raise InputError(f"Parameter `{name}` of {cls} should be above {bound}. Found {value}.")
