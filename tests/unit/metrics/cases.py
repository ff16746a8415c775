"""Every metric with rows to give it, for the properties that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_unlearn import AnswerNLL, AnswerProbability, ExactMemorisation, ExtractionStrength


class Case(NamedTuple):
    """A metric and rows for it."""

    make: Callable[[], Metric]
    rows: Sequence[Any]
    arguments: Callable[[Sequence[Any]], tuple[Any, ...]]
    """What `update` takes for some of the rows."""

    def fed(self, *parts: Sequence[Any]) -> Metric:
        """The metric after an update with each part of the rows."""
        metric = self.make()
        for part in parts:
            metric.update(*self.arguments(part))
        return metric


# ------------------------------------------------------------------------------------ the rows


def answers(lengths: Sequence[int] = (3, 1, 5, 4, 2), vocabulary: int = 6) -> list[Any]:
    """Logits and labels of answers; about half of the labels are the most probable tokens."""
    generator = torch.Generator().manual_seed(4)
    rows = []
    for length in lengths:
        logits = 3 * torch.randn(length, vocabulary, generator=generator)
        noise = torch.randint(vocabulary, (length,), generator=generator)
        hit = torch.rand(length, generator=generator) < 0.6
        rows.append((logits, torch.where(hit, logits.argmax(-1), noise)))
    return rows


def padded(rows: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """``[B, T, V]`` and ``[B, T]``, with logits that must not count where an answer has ended."""
    logits, labels = zip(*rows, strict=True)
    return (
        torch.nn.utils.rnn.pad_sequence(list(logits), batch_first=True, padding_value=9.0),
        torch.nn.utils.rnn.pad_sequence(list(labels), batch_first=True, padding_value=-100),
    )


def packed(rows: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """``[N, V]``, ``[N]`` and ``[N]``: answer positions only."""
    logits, labels = zip(*rows, strict=True)
    numbers = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(x) for x in labels]))
    return torch.cat(logits), torch.cat(labels), numbers


CASES = {
    "AnswerNLL": Case(AnswerNLL, answers(), padded),
    "AnswerProbability": Case(AnswerProbability, answers(), packed),
    "ExtractionStrength": Case(ExtractionStrength, answers(), padded),
    "ExtractionStrength to the end": Case(lambda: ExtractionStrength(True), answers(), packed),
    "ExactMemorisation": Case(ExactMemorisation, answers(), packed),
}
