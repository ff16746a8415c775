"""The share of answer tokens that lead their rivals: MASC's measure of when to stop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.metrics.functional.tokens import answer_positions
from lit_unlearn.metrics.row_metric import RowMetric
from lit_unlearn.objectives.masc import margin_at, rival_margin
from lit_unlearn.objectives.objective import row_means

__all__ = ["MarginViolation"]


class MarginViolation(RowMetric):
    r"""Share of an answer's tokens that outweigh their ten likeliest rivals, averaged over rows.

    .. math:: \frac{1}{B} \sum_b \frac{1}{T_b} \sum_t [p_{y_t} / (p_{y_t} + \sum_{v \in
              \text{rivals}} p_v) > \rho]

    Di Gennaro et al. 2026 (MASC, arXiv 2606.02920), who end unlearning when it is small over the
    forgotten answers: at most 0.475 on TOFU, 0.55 on MUSE News. `update` takes what that of
    `AnswerNLL` takes.

    Args:
        share: The share rho, between 0 and 1; published: 0.7.
        top_k: Number of rivals.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]).log()  # p = 0.8, then 1/4
        >>> metric = MarginViolation()
        >>> metric.update(logits, torch.tensor([[0, 0]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    def __init__(self, share: float = 0.7, top_k: int = 10, **kwargs: Any) -> None:
        super().__init__("violation_shares", **kwargs)
        self.threshold, self.top_k = margin_at(share), top_k

    def update(self, preds: Tensor, target: Tensor, rows: Tensor | None = None) -> None:
        """Add the answers of a batch, given as to `AnswerNLL`."""
        logits, labels, rows = answer_positions(preds.detach(), target, rows)
        if not len(rows):
            return
        margin = rival_margin(logits.float(), labels, self.top_k)
        above = (margin > self.threshold).float().masked_fill(margin.isnan(), torch.nan)
        numbers = rows.unique_consecutive(return_inverse=True)[1]
        self._add("violation_shares", row_means(above, numbers, int(numbers.max()) + 1))

    def compute(self) -> Tensor:
        """Return the mean over all answers; NaN without any."""
        return self._result(mean(self._all("violation_shares")))
