"""TOFU's truth ratio, and the forget quality that compares it with a retain model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.likelihood import (
    closeness_to_one,
    truth_margin,
    truth_ratio,
    truth_share,
)
from lit_unlearn.metrics.functional.statistics import mean, two_sample_ks
from lit_unlearn.metrics.row_metric import RowMetric, check_choice, defined

__all__ = ["ForgetQuality", "TruthMetric", "TruthRatio"]

_AGGREGATES = {"closeness": closeness_to_one, "margin": truth_margin, "share": truth_share}


class TruthMetric(RowMetric):
    """Metric of the rows' ratios ``p_wrong / p_right``.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("truth_ratios", **kwargs)

    def update(self, right: Tensor, wrong: Tensor) -> None:
        """Add rows.

        Args:
            right: ``[B]`` mean log-probability of the right answer, or of its paraphrase if it has
                one, in nats per token: `functional.likelihood.answer_log_probs`.
            wrong: ``[B, W]`` mean log-probabilities of the wrong answers; NaN where a row has fewer
                than W.

        Raises:
            InputError: The shapes do not fit.
        """
        if right.ndim != 1 or wrong.ndim != 2 or len(right) != len(wrong):
            raise InputError(
                "Parameters `right` and `wrong` should have shapes [B] and [B, W]. Found "
                f"{tuple(right.shape)} and {tuple(wrong.shape)}."
            )
        pairs = zip(right.tolist(), wrong.tolist(), strict=True)
        self._add("truth_ratios", [truth_ratio(own, defined(others)) for own, others in pairs])

    def _ratios(self) -> list[float]:
        return defined(self._all("truth_ratios"))


class TruthRatio(TruthMetric):
    r"""TOFU's truth ratio, aggregated over rows.

    .. math:: x_b = \exp\Big(\frac{1}{W} \sum_w \log p_{b,w} - \log p_b\Big)

    Maini et al., "TOFU" (arXiv 2401.06121), section 2.2.2, as its published figures have it; p is
    the geometric mean of the token probabilities. Rows without wrong answers are left out. `update`
    takes mean log-probabilities of the right answers, ``[B]``, and of the wrong ones, ``[B, W]``.

    Args:
        aggregate: ``closeness`` is the mean of min(x, 1/x), for rows to be forgotten; ``margin``
            that of max(0, 1 - x), for rows to be kept; ``share`` that of 1 / (1 + x), which
            open-unlearning calls ``prob_mean``.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = TruthRatio()
        >>> right = torch.tensor([0.5]).log()
        >>> metric.update(right, torch.tensor([[0.5, 0.125]]).log())  # x = (1/4) / (1/2)
        >>> metric.compute()
        tensor(0.5000)
    """

    def __init__(
        self, aggregate: Literal["closeness", "margin", "share"] = "closeness", **kwargs: Any
    ) -> None:
        check_choice("aggregate", aggregate, _AGGREGATES)
        super().__init__(**kwargs)
        self.aggregate = aggregate

    def compute(self) -> Tensor:
        """Return the mean over rows; NaN without any."""
        return self._result(mean([_AGGREGATES[self.aggregate](x) for x in self._ratios()]))


class ForgetQuality(TruthMetric):
    r"""TOFU's forget quality: p-value of a test that truth ratios are those of a retain model.

    .. math:: p = P(D \ge \sup_x |F(x) - F_{retain}(x)|)

    Two-sided two-sample Kolmogorov-Smirnov test (Maini et al., "TOFU", arXiv 2401.06121, section
    2.2.3). A large p-value means that the model cannot be told from one that never saw the rows.
    `update` takes what that of `TruthRatio` takes. A p-value below 1e-45 needs
    ``set_dtype(torch.float64)``.

    Args:
        reference: Truth ratios of the retain model on the same rows.
        kwargs: Arguments of `torchmetrics.Metric`.

    Raises:
        InputError: The reference has no value.

    Example:
        >>> import torch
        >>> metric = ForgetQuality(reference=[0.25, 0.5, 2.0])
        >>> right = torch.zeros(3)
        >>> metric.update(right, torch.tensor([[0.25], [0.5], [2.0]]).log())
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = True

    def __init__(self, reference: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reference = defined(reference)
        if not self.reference:
            raise InputError(
                "Parameter `reference` should hold the truth ratios of a retain model. Found none."
            )

    def compute(self) -> Tensor:
        """Return the p-value; NaN without rows."""
        ratios = self._ratios()
        if not ratios:
            return self._result(float("nan"))
        # in one dtype, so that equal ratios stay equal
        reference = self._result(self.reference).tolist()
        return self._result(two_sample_ks(ratios, reference).p_value)
