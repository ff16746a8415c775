"""Metrics of what still shows: in sampled replies, and to a membership attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.metrics.functional.leakage import leak_at_k
from lit_unlearn.metrics.functional.membership import priv_leak
from lit_unlearn.metrics.functional.statistics import auc
from lit_unlearn.metrics.row_metric import RowMean, RowMetric, defined

__all__ = ["LeakAtK", "MembershipAUC", "PrivLeak"]


class LeakAtK(RowMean):
    r"""Expected highest leak among k of a question's n sampled replies, averaged over questions.

    .. math:: \sum_{i=k}^{n} \frac{\binom{i-1}{k-1}}{\binom{n}{k}} s_{(i)}
              = 1 - \frac{\binom{n-c}{k}}{\binom{n}{k}} \text{ if } c \text{ of } n \text{ leak}

    Reisizadeh et al., "Leak@k" (arXiv 2511.04934).

    Args:
        k: Number of replies, at least 1.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = LeakAtK(k=2)
        >>> metric.update(torch.tensor([[True, False, False, False]]))  # 1 - C(3, 2) / C(4, 2)
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = False

    def __init__(self, k: int, **kwargs: Any) -> None:
        check_number("k", k, 1)
        super().__init__(f"leak_at_{k}", **kwargs)
        self.k = k

    def update(self, leaks: Tensor | Sequence[Sequence[float]]) -> None:
        """Add questions.

        Args:
            leaks: ``[B, n]``: whether each reply leaks, or how much of the answer it gives away, 0
                to 1. n may differ between updates, and as a list between questions.

        Raises:
            InputError: A question has fewer than k replies.
        """
        rows = leaks.tolist() if isinstance(leaks, Tensor) else leaks
        self._add(self._state, [leak_at_k(row, self.k) for row in rows])


class MembershipAUC(RowMetric):
    r"""Chance that a text of the forget set looks more familiar than one that was never seen.

    .. math:: \frac{1}{n m} \sum_{i, j} [s_i < s'_j] + \frac{1}{2} [s_i = s'_j]

    s is a statistic that is lower for a known text, such as those in `functional.membership`: loss,
    Min-K %, zlib. 1: the forget texts look like training data; 0.5: nothing tells them apart; below
    it they are conspicuously unlikely. `torchmetrics.classification.BinaryAUROC` takes
    probabilities: it applies a sigmoid to batches with numbers outside of [0, 1] and to no others,
    so that its result for a statistic depends on the split into batches. Both agree on exp(-loss).

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = MembershipAUC()
        >>> metric.update(torch.tensor([1.0, 2.0, 1.5, 3.0]), torch.tensor([1, 1, 0, 0]))
        >>> metric.compute()
        tensor(0.7500)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("membership_scores", "members", **kwargs)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add texts.

        Args:
            preds: ``[B]`` statistic of each text; NaN where it has none.
            target: ``[B]``, bool or int64: whether it is of the forget set.

        Raises:
            InputError: The shapes do not fit.
        """
        if preds.ndim != 1 or preds.shape != target.shape:
            raise InputError(
                "Parameters `preds` and `target` should both have the shape [B]. Found "
                f"{tuple(preds.shape)} and {tuple(target.shape)}."
            )
        self._add("membership_scores", preds)
        self._add("members", target.bool())

    def compute(self) -> Tensor:
        """Return the area under the curve; NaN without texts on one side."""
        return self._result(self._auc())

    def _auc(self) -> float:
        pairs = list(zip(self._all("membership_scores"), self._all("members"), strict=True))
        known, unseen = (defined(s for s, member in pairs if member == side) for side in (1, 0))
        return auc(known, unseen) if known and unseen else math.nan


class PrivLeak(MembershipAUC):
    r"""MUSE's privacy leakage in percent, relative to a model that never saw the forget set.

    .. math:: 100 \, \frac{(1 - \text{AUC}) - (1 - \text{AUC}_{retain})}{1 - \text{AUC}_{retain}}

    Shi et al., "MUSE" (arXiv 2407.06460), section 3.1, with the `MembershipAUC` of Min-K %. 0 is
    best: near -100 the forget texts still look like training data, above 0 they are too unlikely.

    Args:
        retain_auc: `MembershipAUC` of a model that never saw the forget set, below 1.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = PrivLeak(retain_auc=0.5)
        >>> metric.update(torch.tensor([1.0, 2.0, 1.5, 3.0]), torch.tensor([1, 1, 0, 0]))
        >>> metric.compute()
        tensor(-50.)
    """

    plot_lower_bound = None
    plot_upper_bound = None

    def __init__(self, retain_auc: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.retain_auc = retain_auc

    def compute(self) -> Tensor:
        """Return the leakage in percent; NaN without texts on one side."""
        return self._result(priv_leak(self._auc(), self.retain_auc))
