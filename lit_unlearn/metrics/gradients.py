"""Metrics of the interference of objectives over steps, from the Gramians of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot
from torch import Tensor
from torchmetrics.utilities.plot import _AX_TYPE, _PLOT_OUT_TYPE

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.diagnostics import AT_REST, at_rest, conflict_rate, cosines, without
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.metrics.row_metric import RowMetric

__all__ = ["GradientConflictRate", "GradientCosine", "GramianMetric"]


class GramianMetric(RowMetric):
    """Metric of the cosines between the objectives' gradients, a matrix for each step.

    Args:
        objectives: Names of the M objectives.
        rest: Share of the largest norm below which a gradient is rounding and has no direction
            (`gradients.diagnostics.at_rest`).
        kwargs: Arguments of `torchmetrics.Metric`.
    """

    plot_lower_bound = -1.0

    def __init__(self, objectives: Sequence[str], rest: float = AT_REST, **kwargs: Any) -> None:
        super().__init__("gradient_cosines", **kwargs)
        self.objectives, self.rest = tuple(objectives), rest

    def update(self, gramian: Tensor) -> None:
        """Add a step.

        Args:
            gramian: ``[M, M]`` inner products of the gradients: ``g @ g.T`` of ``[M, P]``
                gradients, or the result of `gradients.gramian.gramian`. Where several processes
                share a model, it is that of the averaged gradients, which all of them have.

        Raises:
            InputError: The shape does not fit.
        """
        count = len(self.objectives)
        if gramian.shape != (count, count):
            raise InputError(
                f"Parameter `gramian` should have the shape [{count}, {count}], a row for each of "
                f"{', '.join(self.objectives)}. Found {tuple(gramian.shape)}."
            )
        gramian = gramian.detach()
        self._add("gradient_cosines", cosines(without(gramian, at_rest(gramian, self.rest))))

    def _steps(self) -> Tensor:
        """Return ``[S, M, M]`` cosines, float64."""
        count = len(self.objectives)
        numbers = torch.tensor(self._all("gradient_cosines"), dtype=torch.float64)
        return numbers.reshape(-1, count, count)


class GradientCosine(GramianMetric):
    r"""Mean cosine of each pair of objectives' gradients over steps.

    .. math:: \frac{1}{S} \sum_s \frac{\langle g_i, g_j \rangle}{|g_i| |g_j|}

    A negative cosine is a conflict (Yu et al. 2020, "Gradient Surgery", arXiv 2001.06782,
    definition 1). Steps at which one of the two gradients is zero or at rest do not count for a
    pair; a pair without steps has NaN. `update` takes the Gramian ``[M, M]`` of a step, such as
    ``g @ g.T`` of ``[M, P]`` gradients; the result is ``[M, M]``.

    Args:
        objectives: Names of the M objectives.
        rest: As in `GramianMetric`.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = GradientCosine(["forget", "retain"])
        >>> gradients = torch.tensor([[1.0, 0.0], [-3.0, 4.0]])
        >>> metric.update(gradients @ gradients.T)
        >>> metric.compute()
        tensor([[ 1.0000, -0.6000],
                [-0.6000,  1.0000]])
    """

    def compute(self) -> Tensor:
        """Return ``[M, M]`` means."""
        steps = self._steps()
        return steps.nanmean(0).to(self.device, self.dtype)

    def plot(
        self, val: Tensor | Sequence[Tensor] | None = None, ax: _AX_TYPE | None = None
    ) -> _PLOT_OUT_TYPE:
        """Draw one result as a matrix, or several as a curve for each pair of objectives.

        Args:
            val: Result of `forward` or `compute`, or a list of them; None computes it.
            ax: Axes of matplotlib to draw into; None makes a figure.

        Returns:
            Figure and axes.
        """
        val = self.compute() if val is None else val
        if isinstance(val, Tensor):
            return self._matrix(val, ax)
        pairs = [*combinations(range(len(self.objectives)), 2)]
        names = [f"{self.objectives[i]}, {self.objectives[j]}" for i, j in pairs]
        curves = [dict(zip(names, [each[p] for p in pairs], strict=True)) for each in val]
        return self._plot(curves, ax)

    def _matrix(self, cosine: Tensor, ax: Any) -> _PLOT_OUT_TYPE:
        figure, axes = pyplot.subplots() if ax is None else (ax.get_figure(), ax)
        values = cosine.cpu().numpy()
        axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
        axes.set_xticks(range(len(cosine)), self.objectives)
        axes.set_yticks(range(len(cosine)), self.objectives)
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center")
        return figure, axes


class GradientConflictRate(GramianMetric):
    r"""Share of the pairs of objectives whose gradients conflict, averaged over steps.

    .. math:: \frac{1}{S} \sum_s \frac{|\{i < j : \cos(g_i, g_j) < 0\}|}{|\{i < j\}|}

    Pairs with a gradient that is zero or at rest do not count; a step without pairs has 0, as in
    the curve ``conflict/rate``. `update` takes what that of `GradientCosine` takes.

    Args:
        objectives: Names of the M objectives.
        rest: As in `GramianMetric`.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = GradientConflictRate(["forget", "retain"])
        >>> metric.update(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]))
        >>> metric.update(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    plot_lower_bound = 0.0

    def compute(self) -> Tensor:
        """Return the mean over steps; NaN without any."""
        return self._result(mean([conflict_rate(step) for step in self._steps()]))
