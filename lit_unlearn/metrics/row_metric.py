"""The base of the metrics: it keeps numbers of every row, so that no split changes the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.plot import _AX_TYPE, _PLOT_OUT_TYPE

from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.metrics.functional.statistics import mean

__all__ = ["RowMean", "RowMetric", "check_choice", "defined"]


class RowMetric(Metric):
    """`torchmetrics.Metric` whose states are lists of numbers, joined over processes.

    Sums are exactly rounded, so that neither the order of rows nor their split into updates or
    processes changes a result. Numbers are kept at least in float32, whatever dtype the model has;
    ``set_dtype(torch.float64)`` keeps more digits.

    Two metrics of a `torchmetrics.MetricCollection` whose states are equal after the first batch
    share them from then on. So a state has the same name in two metrics only if its numbers are
    always the same.

    Args:
        states: Names of the states.
        kwargs: Arguments of `torchmetrics.Metric`, such as ``sync_on_compute``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = None
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    def __init__(self, *states: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for state in states:
            self.add_state(state, [], dist_reduce_fx="cat")
        self._keep_precision()

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        moved = super()._apply(fn, exclude_state)
        self._keep_precision()
        return moved

    def _keep_precision(self) -> None:
        """Keep float32 where a model is converted to bfloat16 (Lightning's `bf16-true`)."""
        if torch.finfo(self.dtype).bits < 32:
            self.set_dtype(torch.float32)

    def _add(self, state: str, values: Tensor | Sequence[float]) -> None:
        """Append numbers to a state."""
        kept = torch.as_tensor(values, dtype=self.dtype, device=self.device)
        getattr(self, state).append(kept.detach().flatten())

    def _all(self, state: str) -> list[float]:
        """Return the numbers of a state, which is one tensor after processes have joined theirs."""
        found = getattr(self, state)
        parts = [found] if isinstance(found, Tensor) else found
        return torch.cat(parts).tolist() if parts else []

    def _result(self, value: float | Sequence[float]) -> Tensor:
        return torch.tensor(value, dtype=self.dtype, device=self.device)

    def plot(
        self, val: Tensor | Sequence[Tensor] | None = None, ax: _AX_TYPE | None = None
    ) -> _PLOT_OUT_TYPE:
        """Draw one result, or several over steps.

        Args:
            val: Result of `forward` or `compute`, or a list of them; None computes it.
            ax: Axes of matplotlib to draw into; None makes a figure.

        Returns:
            Figure and axes.
        """
        return self._plot(val, ax)


class RowMean(RowMetric):
    """Mean of one score per row, over the rows for which it is defined.

    Args:
        state: Name of the state.
        kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, state: str, **kwargs: Any) -> None:
        super().__init__(state, **kwargs)
        self._state = state

    def compute(self) -> Tensor:
        """Return the mean; NaN without rows."""
        return self._result(mean(defined(self._all(self._state))))


def defined(scores: Iterable[float]) -> list[float]:
    """Return the scores that are not NaN."""
    return [score for score in scores if not math.isnan(score)]


def check_choice(parameter: str, found: str, known: Iterable[str]) -> None:
    """Check that an argument is one of the names that are known."""
    names = list(known)
    if found not in names:
        raise InputError(
            f"Parameter `{parameter}` should be one of {', '.join(names)}. Found {found!r}; "
            f"{did_you_mean(found, names, otherwise='give one of these.')}"
        )
