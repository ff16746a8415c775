"""Objectives of every family, rows for them, and readers that give fixed numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lit_unlearn import objectives as o
from lit_unlearn.data.collation import collate
from lit_unlearn.objectives import Objective
from lit_unlearn.types import EncodedExample, TokenBatch, Tokens
from tests.unit.objectives.test_objectives import LONG, SHORT, row

Groups = list[list[EncodedExample]]

SINGLE: Groups = [[SHORT], [LONG]]
PAIRS: Groups = [
    [row("one", [5, 6], [7, 8]), row("one", [5, 6], [30, 31, 32])],
    [row("two", [9, 10, 11, 12], [14, 15, 16]), row("two", [9, 10, 11, 12], [30])],
]
"""Two questions with a preferred and a rejected answer each."""
SAME: Groups = [[row("same", [5, 6], [7, 8])], [row("other", [5, 9, 6], [11])]]
"""No context: student and teacher see the same."""
MARKED: Groups = [[replace(SHORT, marked=(0,))], [replace(LONG, marked=(1, 2))]]
"""Some tokens of the answers hold their knowledge."""


class Case(NamedTuple):
    make: Callable[[], Objective]
    groups: Groups


CASES: dict[str, Case] = {
    "ascent": Case(o.GradientAscent, SINGLE),
    "ascent_bounded": Case(lambda: o.GradientAscent(nll_limit=20.0), SINGLE),
    "wga": Case(o.WGA, SINGLE),
    "satimp": Case(o.SatImp, SINGLE),
    "tnpo": Case(o.TNPO, SINGLE),
    "bst": Case(o.BST, SINGLE),
    "npo": Case(o.NPO, SINGLE),
    "simnpo": Case(o.SimNPO, SINGLE),
    "dpo": Case(o.DPO, PAIRS),
    "answer_preservation": Case(o.AnswerPreservation, PAIRS),
    "undial": Case(o.UNDIAL, SINGLE),
    "ceu": Case(o.CEU, SINGLE),
    "unilogit": Case(o.Unilogit, SINGLE),
    "max_entropy": Case(o.MaximumEntropy, SINGLE),
    "max_entropy_reverse": Case(lambda: o.MaximumEntropy(direction="reverse"), SINGLE),
    "flat_tv": Case(o.FLAT, PAIRS),
    "flat_kl": Case(lambda: o.FLAT(divergence="kl"), PAIRS),
    "flat_pearson": Case(lambda: o.FLAT(divergence="pearson"), PAIRS),
    "flat_js": Case(lambda: o.FLAT(divergence="jensen_shannon"), PAIRS),
    "jensun": Case(o.JensUn, PAIRS),
    "masc": Case(lambda: o.MASC(share=0.1), SINGLE),
    "palu": Case(o.PALU, MARKED),
    "flattening": Case(o.LogitFlattening, SINGLE),
    "bild": Case(o.BiLD, SINGLE),
    "rmu": Case(lambda: o.RMU(depth=0.5), SINGLE),
    "adaptive_rmu": Case(lambda: o.AdaptiveRMU(depth=0.5), SINGLE),
    "rerouting": Case(lambda: o.RepresentationRerouting(depths=[0.5, 1.0]), SINGLE),
    "hidden_retain": Case(o.HiddenRetain, SINGLE),
    "hidden_retain_norm": Case(lambda: o.HiddenRetain(distance="norm"), SINGLE),
}
"""One of every loss that reads the student once; LatentAdversarial reads it several times."""


class Given:
    """A reader that gives fixed logits ``[B, T, V]`` and hidden states ``[L, B, T, d]``.

    It counts the sequences that it reads. An objective may read some of the rows alone: `inputs`
    are those of all rows, by which it knows them.
    """

    def __init__(self, logits: Tensor, hidden: Tensor, inputs: Sequence[Tensor] = ()) -> None:
        self.all_logits, self.all_hidden, self.inputs = logits, hidden, inputs
        self.sequences = 0

    def logits(self, tokens: Tokens) -> Tensor:
        self.sequences += len(tokens.input_ids)
        return self.all_logits[self.rows(tokens), tokens.columns]

    def rows(self, tokens: Tokens) -> Tensor:
        """The row of each prediction among all rows."""
        for known in self.inputs:
            if known.shape[1] == tokens.input_ids.shape[1]:
                same = (tokens.input_ids[:, None] == known[None]).all(-1)
                if same.any(-1).all():
                    return same.long().argmax(-1)[tokens.rows]
        return tokens.rows

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        self.sequences += len(tokens.input_ids)
        layers = len(self.all_hidden)
        chosen = range(layers) if depths is None else [round(d * layers) - 1 for d in depths]
        return torch.stack([self.all_hidden[i][tokens.rows, tokens.columns] for i in chosen])


def given(batch: TokenBatch, scale: float = 1.0, seed: int = 0, grad: bool = False) -> Given:
    """Random numbers for every position of a batch; 50 tokens, 2 layers of 6 units."""
    generator = torch.Generator().manual_seed(seed)
    length = max(batch.student.input_ids.shape[1], batch.teacher.input_ids.shape[1])
    logits = scale * torch.randn(len(batch), length, 50, generator=generator)
    hidden = scale * torch.randn(2, len(batch), length, 6, generator=generator)
    inputs = (batch.student.input_ids, batch.teacher.input_ids)
    return Given(logits.requires_grad_(grad), hidden.requires_grad_(grad), inputs)


def batch_of(groups: Groups, pad_id: int = 0) -> TokenBatch:
    return collate(groups, pad_id)


def log_softmax64(logits: Sequence[float]) -> list[float]:
    """Log-probabilities in float64, one by one; for independent computations."""
    values = torch.tensor(logits, dtype=torch.float64)
    highest = float(values.max())
    total = sum(float((value - highest).exp()) for value in values)
    return [
        float(value) - highest - float(torch.tensor(total, dtype=torch.float64).log())
        for value in values
    ]
