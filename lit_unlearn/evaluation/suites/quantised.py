"""Quantised: recall of forgotten answers after the weights are rounded."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from lit_unlearn.attacks.quantisation import check_grid, quantised_copy
from lit_unlearn.data.sources import Source
from lit_unlearn.evaluation.probes import (
    Effort,
    Generation,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Subject,
    Suite,
    SuiteResult,
    Variant,
)
from lit_unlearn.evaluation.suites.common import builtin_forget, probe_of
from lit_unlearn.evaluation.suites.recall import load_targets
from lit_unlearn.evaluation.suites.recovery import (
    UNATTACKED,
    attack_result,
    by_variant,
    check_whole,
)

__all__ = ["Quantised"]


@dataclass
class Quantised(Suite):
    """Recall of forgotten answers after the weights are rounded to 8 and 4 bits.

    Quantisation, which is common in deployment, can undo unlearning with small steps (Zhang et al.
    2024, arXiv 2410.16454). Weights of linear layers are rounded to the nearest of `2^bits - 1`
    evenly spaced values, symmetric about 0; the largest weight of each group determines the
    spacing, and a weight changes by at most half a step. The paper's code uses the number formats
    of bitsandbytes, so that its figures differ slightly.

    Args:
        sources: Rows whose answers should be forgotten.
        bits: Bits of each weight, 2 to 16; one variant for each value, named `int<bits>`.
        group_size: Number of neighbouring weights of a row that share a scale; null for one scale
            per row.
        embeddings: Also round token embeddings and the output head.
        max_new_tokens: Maximum number of tokens of a reply.
    """

    name: ClassVar[str] = "quantised"

    sources: list[Source] = field(default_factory=builtin_forget)
    bits: list[int] = field(default_factory=lambda: [8, 4])
    group_size: int | None = 64
    embeddings: bool = False
    max_new_tokens: int = 48

    def __post_init__(self) -> None:
        for bits in self.bits:
            check_grid(bits, self.group_size)

    def probes(self, data_root: Path | None) -> list[Probe]:
        rows = load_targets(self.sources, data_root, self.name)
        generation = Generation(self.max_new_tokens)
        return [probe_of(row, UNATTACKED, generation, {"answer": row.answer}) for row in rows]

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        check_whole(self.name, subject.model)
        key = f"group_size={self.group_size} embeddings={self.embeddings}"
        how = (self.group_size, self.embeddings)
        makers = [partial(quantised_copy, subject.model, bits, *how) for bits in self.bits]
        pairs = zip(self.bits, makers, strict=True)
        changed = [Variant(f"int{bits}", key, make) for bits, make in pairs]
        return [Variant("", "", lambda: subject.model), *changed]

    def effort(self, probes: Probes) -> Effort:
        return Effort(models=1 + len(self.bits))

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        return attack_result(by_variant(probes, outcomes), {})
