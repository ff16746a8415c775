"""Metrics of teacher-forced answers, from the logits at the answers' positions.

All of them keep the same states. In a `torchmetrics.MetricCollection` they form one compute group:
the logits of a batch are read once for all of them, from the second batch on.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from lit_unlearn.metrics.functional.likelihood import (
    answer_probability,
    exact_memorisation,
    extraction_strength,
)
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.metrics.functional.tokens import answer_positions, token_statistics
from lit_unlearn.metrics.row_metric import RowMetric

__all__ = ["AnswerMetric", "AnswerNLL", "AnswerProbability", "ExactMemorisation"]
__all__ += ["ExtractionStrength"]


class AnswerMetric(RowMetric):
    """Mean over rows of one score of each row's teacher-forced answer.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("answer_log_probs", "answer_hits", "answer_lengths", **kwargs)

    def update(self, preds: Tensor, target: Tensor, rows: Tensor | None = None) -> None:
        """Add the answers of a batch; all positions of an answer belong in one update.

        Position ``t`` predicts ``target[t]``. With the logits and labels of a model of
        transformers, give ``logits[:, :-1]`` and ``labels[:, 1:]``.

        Args:
            preds: ``[B, T, V]`` logits or log-probabilities, or ``[N, V]`` with ``rows``.
            target: ``[B, T]`` or ``[N]``, int64 token ids; -100 where a position belongs to no
                answer.
            rows: ``[N]``, int64: row of each position, if ``preds`` has answer positions only, of
                all rows one after the other. The numbers count within this update alone.

        Raises:
            InputError: The shapes do not fit, or a label is no token id.
        """
        logits, labels, rows = answer_positions(preds.detach(), target, rows)
        log_probs, hits, _, _ = token_statistics(logits, labels)
        self._add("answer_log_probs", log_probs)
        self._add("answer_hits", hits)
        self._add("answer_lengths", rows.unique_consecutive(return_counts=True)[1])

    def compute(self) -> Tensor:
        """Return the mean over all answers for which the score is defined; NaN without any."""
        scores = [self._score(*answer) for answer in self._answers()]
        return self._result(mean([score for score in scores if score is not None]))

    def _answers(self) -> Iterator[tuple[list[float], list[bool]]]:
        """Yield the log-probabilities and hits of each answer's tokens."""
        log_probs, hits = self._all("answer_log_probs"), self._all("answer_hits")
        start = 0
        for length in map(int, self._all("answer_lengths")):
            end = start + length
            yield log_probs[start:end], [hit > 0 for hit in hits[start:end]]
            start = end

    @abstractmethod
    def _score(self, log_probs: Sequence[float], hits: Sequence[bool]) -> float | None:
        """Return the score of one answer, NaN if its logits are; None where it has no score."""


class AnswerNLL(AnswerMetric):
    r"""Mean negative log-likelihood per answer token, averaged over rows, in nats.

    .. math:: \frac{1}{B} \sum_b -\frac{1}{T_b} \sum_t \log p(y_{b,t} \mid x_b, y_{b,<t})

    Every row counts the same, however long it is; `torchmetrics.text.Perplexity` averages over
    tokens. `update` takes logits ``[B, T, V]`` and labels ``[B, T]``, where -100 does not count, or
    packed positions: logits ``[N, V]``, labels ``[N]`` and the ``rows`` ``[N]`` that they are of.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[1.0, 1.0], [3.0, 1.0]]]).log()  # p = 1/2, then 3/4
        >>> metric = AnswerNLL()
        >>> metric.update(logits, torch.tensor([[0, 0]]))
        >>> round(metric.compute().item(), 4)  # (ln 2 + ln 4/3) / 2
        0.4904
    """

    plot_upper_bound = None

    def _score(self, log_probs: Sequence[float], hits: Sequence[bool]) -> float:
        return -mean(log_probs)


class AnswerProbability(AnswerMetric):
    r"""TOFU's answer probability, the geometric mean of an answer's token probabilities.

    .. math:: \frac{1}{B} \sum_b \Big(\prod_t p(y_{b,t} \mid x_b, y_{b,<t})\Big)^{1 / T_b}

    Maini et al., "TOFU" (arXiv 2401.06121), section 2.2.1. `update` takes what that of `AnswerNLL`
    takes.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[1.0, 1.0], [1.0, 7.0]]]).log()  # p = 1/2, then 1/8
        >>> metric = AnswerProbability()
        >>> metric.update(logits, torch.tensor([[0, 0]]))
        >>> metric.compute()
        tensor(0.2500)
    """

    def _score(self, log_probs: Sequence[float], hits: Sequence[bool]) -> float:
        return answer_probability(log_probs)


class _MemorisationMetric(AnswerMetric):
    """Mean of a score of the greedy hits.

    Args:
        end_of_turn: As in the subclasses.
        kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, end_of_turn: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.end_of_turn = end_of_turn

    def _score(self, log_probs: Sequence[float], hits: Sequence[bool]) -> float | None:
        if any(map(math.isnan, log_probs)):
            return math.nan
        score = self._of_hits(hits)
        return None if math.isnan(score) else score

    @abstractmethod
    def _of_hits(self, hits: Sequence[bool]) -> float:
        """Return the score of one answer; NaN where it has none."""


class ExtractionStrength(_MemorisationMetric):
    r"""Share of an answer that greedy decoding completes by itself, averaged over rows.

    .. math:: 1 - \frac{1}{T} \min \{k : \text{argmax}\, p(\cdot \mid x, y_{<t}) = y_t
              \text{ for all } t > k\}

    Carlini et al. 2021 (arXiv 2012.07805); open-unlearning (arXiv 2506.12618). An answer whose last
    counted token is not predicted has 0. `update` takes what that of `AnswerNLL` takes.

    Args:
        end_of_turn: Count the last token of each answer, which ends the turn; open-unlearning drops
            it. Set it where the labels have no such token. An answer without a counted token is
            left out.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> greedy = torch.tensor([[5, 1, 2, 3]])  # of the answer 0 1 2 3 the first token is missed
        >>> logits = torch.nn.functional.one_hot(greedy, 6).float()
        >>> metric = ExtractionStrength(end_of_turn=True)
        >>> metric.update(logits, torch.tensor([[0, 1, 2, 3]]))
        >>> metric.compute()
        tensor(0.7500)
    """

    def _of_hits(self, hits: Sequence[bool]) -> float:
        return extraction_strength(hits, end_of_turn=self.end_of_turn)


class ExactMemorisation(_MemorisationMetric):
    r"""Share of an answer's tokens that are the most probable ones, averaged over rows.

    .. math:: \frac{1}{T} \sum_t [\text{argmax}\, p(\cdot \mid x, y_{<t}) = y_t]

    Tirumala et al. 2022 (arXiv 2205.10770), section 2; open-unlearning (arXiv 2506.12618).
    `update` takes what that of `AnswerNLL` takes.

    Args:
        end_of_turn: As in `ExtractionStrength`.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> greedy = torch.tensor([[0, 5, 2, 5]])
        >>> logits = torch.nn.functional.one_hot(greedy, 6).float()
        >>> metric = ExactMemorisation(end_of_turn=True)
        >>> metric.update(logits, torch.tensor([[0, 1, 2, 3]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    def _of_hits(self, hits: Sequence[bool]) -> float:
        return exact_memorisation(hits, end_of_turn=self.end_of_turn)
