"""Metrics that combine several figures: TOFU's model utility, and the balanced score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.balance import PARTS, Measured, balance
from lit_unlearn.metrics.functional.likelihood import model_utility
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.metrics.row_metric import RowMetric, check_choice, defined

__all__ = ["ModelUtility", "UnlearningBalance"]

_GROUPS = ("retain", "real_authors", "world_facts")
_SCORES = 3
_FIGURES = tuple(each.name for each in fields(Measured))


class ModelUtility(RowMetric):
    r"""TOFU's model utility: the harmonic mean of nine means, three scores of three groups.

    .. math:: 9 \Big/ \sum_{g} \sum_{s} \frac{1}{\bar{s}_g}

    Maini et al., "TOFU" (arXiv 2401.06121), section 2.2.2. Groups are the retain rows, the real
    authors and the world facts.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = ModelUtility()
        >>> half, one = torch.tensor([0.5]), torch.tensor([1.0])
        >>> for group in ("retain", "real_authors", "world_facts"):
        ...     metric.update(group, half, half, one)
        >>> metric.compute()  # 9 / (6 * 2 + 3 * 1)
        tensor(0.6000)
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(*(f"utility_{group}" for group in _GROUPS), **kwargs)

    def update(
        self,
        group: Literal["retain", "real_authors", "world_facts"],
        probability: Tensor,
        rouge_l: Tensor,
        truth_ratio: Tensor,
    ) -> None:
        """Add rows of one group.

        Args:
            group: Name of the group.
            probability: ``[B]`` answer probability, of the last two groups among the given options
                (`functional.likelihood.probability_with_options`).
            rouge_l: ``[B]`` ROUGE-L recall of the reply.
            truth_ratio: ``[B]`` truth ratio, aggregated as max(0, 1 - x).

        Raises:
            InputError: The group is not known, or the shapes do not fit.
        """
        check_choice("group", group, _GROUPS)
        scores = (probability, rouge_l, truth_ratio)
        if any(each.ndim != 1 or len(each) != len(probability) for each in scores):
            raise InputError(
                "Parameters `probability`, `rouge_l` and `truth_ratio` should all have the shape "
                f"[B]. Found {[tuple(each.shape) for each in scores]}."
            )
        self._add(f"utility_{group}", torch.stack(scores, dim=1))

    def compute(self) -> Tensor:
        """Return the utility; NaN while a group has no rows."""
        values = [self._all(f"utility_{group}") for group in _GROUPS]
        parts = [mean(defined(own[s::_SCORES])) for own in values for s in range(_SCORES)]
        return self._result(model_utility(parts))


class UnlearningBalance(RowMetric):
    r"""The balanced score of an unlearned model, relative to the start model.

    .. math:: 5 \Big/ \Big(\frac{1}{\text{forgetting}} + \frac{1}{\text{utility}} +
              \frac{1}{\text{boundary}} + \frac{1}{\text{robustness}} +
              \frac{1}{\text{readability}}\Big)

    `functional.balance` defines the parts by the figures of `Measured`. The score is near 0 for the
    start model, for one that refuses everything, and for one that writes loops or noise. It is a
    proposal of this package.

    Args:
        start: The start model's figures.
        part: The score, or one of its five parts.
        never: Figures of a model that never knew what was to be forgotten; None for zeros.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> start = Measured(
        ...     recall=0.8,
        ...     known=0.8,
        ...     utility=0.5,
        ...     neighbor_correct=1.0,
        ...     refused=0.0,
        ...     attacked=0.8,
        ...     readable=1.0,
        ... )
        >>> metric = UnlearningBalance(start)
        >>> metric.update("recall", torch.tensor([0.0, 0.0]))
        >>> metric.update("known", torch.tensor([0.0, 0.8]))  # forgetting 1 - .4 / .8
        >>> metric.update("attacked", torch.tensor([0.4, 0.4]))  # robustness 1/2
        >>> metric.update("utility", torch.tensor([0.25]))  # 1/2 is left
        >>> metric.update("neighbor_correct", torch.tensor([1.0, 0.0]))
        >>> metric.update("refused", torch.tensor([0.0]))  # boundary 1/2
        >>> metric.update("readable", torch.tensor([0.5]))
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = True

    def __init__(
        self,
        start: Measured,
        part: Literal[
            "score", "forgetting", "utility", "boundary", "robustness", "readability"
        ] = "score",
        never: Measured | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("part", part, ("score", *PARTS))
        super().__init__(*(f"balance_{name}" for name in _FIGURES), **kwargs)
        self.start, self.part, self.never = start, part, never

    def update(self, figure: str, values: Tensor | Sequence[float]) -> None:
        """Add rows of one figure.

        Args:
            figure: The name of a field of `Measured`.
            values: ``[B]`` score of each row, 0 to 1; for the utility any number of which more is
                better, or one number that is the whole (`ModelUtility`).

        Raises:
            InputError: The figure is not known.
        """
        check_choice("figure", figure, _FIGURES)
        self._add(f"balance_{figure}", values)

    def compute(self) -> Tensor:
        """Return the score or the part; NaN while a figure has no rows."""
        found = {name: mean(defined(self._all(f"balance_{name}"))) for name in _FIGURES}
        return self._result(balance(self.start, Measured(**found), self.never)[self.part])
