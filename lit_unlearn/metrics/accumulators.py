"""Averages of scores over batches and ranks: torchmetrics classes that hold sums and counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanScore(Metric):
    """Weighted mean of scores, ``sum(weight * value) / sum(weight)``, exact over batches and ranks.

    Its state is a sum and a count, so that batches of unequal size and ranks with unequal numbers
    of rows give the mean over all rows, not a mean of means. Before the first row the value is NaN
    (nothing was measured, which is not a score of 0). A NaN among the values gives NaN: leave rows
    out to which the score does not apply, or give them weight 0.
    """

    full_state_update = False
    is_differentiable = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, values: Tensor, weights: Tensor | None = None) -> None:
        """Add rows.

        Args:
            values: Any shape: one score per row (for instance 0 and 1 for a rate).
            weights: The same shape, not negative: for instance the answer tokens of each row, to
                average per token; None weighs every row alike. Rows of weight 0 are left out.

        Raises:
            ValueError: The shapes differ or a weight is negative.
        """
        values = values.detach().to(self.total)
        weights = torch.ones_like(values) if weights is None else weights.detach().to(self.total)
        if weights.shape != values.shape:
            raise ValueError(
                f"weights: expected the shape of values {tuple(values.shape)}, found "
                f"{tuple(weights.shape)}"
            )
        if bool((weights < 0).any()):
            raise ValueError(f"weights: expected none below 0, found {float(weights.min())}")
        counted = weights > 0
        self.total += (values[counted] * weights[counted]).sum()
        self.weight += weights.sum()

    def compute(self) -> Tensor:
        """The mean so far, a scalar; NaN before the first row."""
        return self.total / self.weight
