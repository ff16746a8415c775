"""Every metric with rows to give it, for the properties that hold for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_unlearn import (
    AnswerNLL,
    AnswerProbability,
    ExactMemorisation,
    ExtractionStrength,
    ForgetQuality,
    GradientConflictRate,
    GradientCosine,
    LeakAtK,
    MarginViolation,
    Measured,
    MembershipAUC,
    ModelUtility,
    PrivLeak,
    RefusalRate,
    Repetition,
    RougeL,
    TruthRatio,
    UnlearningBalance,
)


class Case(NamedTuple):
    """A metric and rows for it."""

    make: Callable[[], Metric]
    rows: Sequence[Any]
    arguments: Callable[[Any], tuple[Any, ...]]
    """What `update` takes for some of the rows."""
    one_by_one: bool = False
    """Whether an update takes one of the rows only."""

    def fed(self, *parts: Sequence[Any]) -> Metric:
        """The metric after an update with each part of the rows."""
        metric = self.make()
        for part in parts:
            for few in self.updates(part):
                metric.update(*self.arguments(few))
        return metric

    def updates(self, part: Sequence[Any]) -> list[Sequence[Any]]:
        """Rows that go into one update each."""
        return [[row] for row in part] if self.one_by_one else [part]


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


def stacked(rows: Sequence[tuple[Any, ...]]) -> tuple[Tensor, ...]:
    """Columns of the rows."""
    return tuple(torch.tensor(column) for column in zip(*rows, strict=True))


def texts(rows: Sequence[tuple[str, ...]]) -> tuple[list[str], ...]:
    return tuple(map(list, zip(*rows, strict=True)))


NAN = math.nan
TRUTH = [(-0.5, [-1.0, -2.0]), (-3.0, [-0.25, NAN]), (-1.0, [NAN, NAN]), (-0.7, [-0.7, -0.8])]
REPLIES = [
    ("I do not know.", "Paris"),
    ("The capital is Paris, is Paris, is Paris.", "It is the city of Paris."),
    ("", "Rome"),
    ("An answer", "!"),  # a gold answer without a word
]
SEEN = [(0.5, 1), (2.0, 0), (0.75, 0), (0.25, 1), (NAN, 1), (0.75, 1)]
SAMPLES = [[[0.0, 1.0, 0.0, 0.0]], [[0.25, 0.5, 1.0]], [[0.0, 0.0]], [[1.0, 1.0]]]
UTILITY = [
    ("retain", 0.9, 0.5, 0.3),
    ("real_authors", 0.4, 1.0, NAN),
    ("retain", 0.7, 0.25, 0.5),
    ("real_authors", 0.6, 0.9, 0.7),
    ("world_facts", 0.3, 0.8, 0.6),
]
START = Measured(0.8, 0.6, 0.5, 0.9, 0.1, 0.9, 0.8)
BALANCE = [
    ("recall", [0.5, 0.25]),
    ("known", [0.5]),
    ("attacked", [0.25, 0.25]),
    ("readable", [0.5, 1.0, 0.0]),
    ("neighbor_correct", [1.0, 0.0, 1.0]),
    ("refused", [0.0, 1.0]),
    ("utility", [0.375]),
    ("recall", [0.0]),
]
OBJECTIVES = ("forget", "retain", "neighbor")


def gramians() -> list[Tensor]:
    """Gramians of three objectives at four steps; at one of them the second is at rest."""
    generator = torch.Generator().manual_seed(3)
    gradients = torch.randn(4, 3, 5, generator=generator)
    gradients[2, 1] *= 1e-9
    return [*(gradients @ gradients.mT)]


def balanced() -> UnlearningBalance:
    return UnlearningBalance(START)


CASES = {
    "TruthRatio": Case(TruthRatio, TRUTH, stacked),
    "TruthRatio share": Case(lambda: TruthRatio("share"), TRUTH, stacked),
    "ForgetQuality": Case(lambda: ForgetQuality([0.5, 2.0, 7.0, 0.1]), TRUTH, stacked),
    "RougeL": Case(RougeL, REPLIES, texts),
    "RougeL F1": Case(lambda: RougeL("f1", stemmer=False), REPLIES, texts),
    "RefusalRate": Case(RefusalRate, REPLIES, lambda rows: texts(rows)[:1]),
    "Repetition": Case(lambda: Repetition(2), REPLIES, lambda rows: texts(rows)[:1]),
    "LeakAtK": Case(lambda: LeakAtK(2), SAMPLES, lambda rows: (rows[0],), one_by_one=True),
    "MembershipAUC": Case(MembershipAUC, SEEN, stacked),
    "PrivLeak": Case(lambda: PrivLeak(0.6), SEEN, stacked),
    "ModelUtility": Case(
        ModelUtility,
        UTILITY,
        lambda rows: (rows[0][0], *(torch.tensor([x]) for x in rows[0][1:])),
        one_by_one=True,
    ),
    "UnlearningBalance": Case(balanced, BALANCE, lambda rows: rows[0], one_by_one=True),
    "GradientCosine": Case(
        lambda: GradientCosine(OBJECTIVES), gramians(), lambda rows: (rows[0],), one_by_one=True
    ),
    "GradientConflictRate": Case(
        lambda: GradientConflictRate(OBJECTIVES),
        gramians(),
        lambda rows: (rows[0],),
        one_by_one=True,
    ),
    "AnswerNLL": Case(AnswerNLL, answers(), padded),
    "AnswerProbability": Case(AnswerProbability, answers(), packed),
    "ExtractionStrength": Case(ExtractionStrength, answers(), padded),
    "ExtractionStrength to the end": Case(lambda: ExtractionStrength(True), answers(), packed),
    "MarginViolation": Case(lambda: MarginViolation(0.5, 2), answers(), packed),
    "ExactMemorisation": Case(ExactMemorisation, answers(), packed),
}
