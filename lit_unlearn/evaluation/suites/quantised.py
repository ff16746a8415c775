"""Quantised: recall of forgotten answers after weights are rounded."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from lit_unlearn.attacks.quantisation import check_grid, quantised_copy
from lit_unlearn.evaluation.probes import Effort, Probes, Subject, Variant
from lit_unlearn.evaluation.suites.tampering import Tampering

__all__ = ["Quantised"]


@dataclass
class Quantised(Tampering):
    """Recall of forgotten answers after the weights are rounded to 8 and 4 bits.

    Quantisation, which is common in deployment, can undo unlearning with small steps (Zhang et al.
    2024, arXiv 2410.16454). Weights of linear layers are rounded to the nearest of `2^bits - 1`
    evenly spaced values, symmetric about 0; the largest weight of each group determines the
    spacing, and a weight changes by at most half a step. The paper's code uses the number formats
    of bitsandbytes, so that its figures differ slightly.

    Args:
        bits: Bits of each weight, 2 to 16; one variant for each value, named `int<bits>`.
        group_size: Number of neighbouring weights of a row that share a scale; null for one scale
            per row.
        embeddings: Also round token embeddings and the output head.
    """

    name: ClassVar[str] = "quantised"

    bits: list[int] = field(default_factory=lambda: [8, 4])
    group_size: int | None = 64
    embeddings: bool = False

    def __post_init__(self) -> None:
        for bits in self.bits:
            check_grid(bits, self.group_size)

    def changes(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        key = f"group_size={self.group_size} embeddings={self.embeddings}"
        how = (self.group_size, self.embeddings)
        return [
            Variant(f"int{bits}", key, partial(quantised_copy, subject.model, bits, *how))
            for bits in self.bits
        ]

    def effort(self, probes: Probes) -> Effort:
        return Effort(models=1 + len(self.bits))
