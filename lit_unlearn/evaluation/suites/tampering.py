"""Base class of attacks on the weights: rows are asked before and after each change."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lit_unlearn.data.sources import Source
from lit_unlearn.evaluation.probes import (
    Effort,
    Figure,
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
from lit_unlearn.types import Example

__all__ = ["Tampering"]


@dataclass
class Tampering(Suite):
    """An attack that changes the weights: `Relearn`, `Quantised` or `Pruned`.

    Each change is made on a copy, so the model keeps its weights bit by bit. `recall_worst` is the
    recall after the change that brings back most. The balance makes `tamper_resistance` of all
    these suites.

    Args:
        sources: Rows whose answers should be forgotten.
        max_new_tokens: Maximum number of tokens of a reply.
    """

    sources: list[Source] = field(default_factory=builtin_forget)
    max_new_tokens: int = 48

    @abstractmethod
    def changes(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        """Return the changed models; the names of variants are the groups of figures."""

    def asked(self, rows: list[Example]) -> list[Example]:
        """Return those of the rows that are asked, by default all."""
        return rows

    def rows(self, data_root: Path | None) -> list[Example]:
        """Return the rows whose answers should be forgotten."""
        return load_targets(self.sources, data_root, self.name)

    def probes(self, data_root: Path | None) -> list[Probe]:
        generation, rows = Generation(self.max_new_tokens), self.asked(self.rows(data_root))
        return [probe_of(row, UNATTACKED, generation, {"answer": row.answer}) for row in rows]

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        check_whole(self.name, subject.model)
        return [Variant("", "", lambda: subject.model), *self.changes(subject, data_root)]

    @abstractmethod
    def effort(self, probes: Probes) -> Effort: ...

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        prefix = f"{self.name}/"
        named = {name.removeprefix(prefix): found for name, found in outcomes.items()}
        result = attack_result(by_variant(probes, named), {})
        return SuiteResult(result.rows, [*result.figures, *_worst(result.figures)])


def _worst(figures: Sequence[Figure]) -> list[Figure]:
    """Return the recall of the attack with the highest one, named in the note."""
    ends = "/recall"
    attacked = [
        figure
        for figure in figures
        if figure.name.endswith(ends) and figure.name != f"{UNATTACKED}{ends}"
    ]
    if not attacked:
        return []
    worst = max(attacked, key=lambda figure: figure.value)
    note = "; ".join(text for text in (worst.name.removesuffix(ends), worst.note) if text)
    return [replace(worst, name="recall_worst", note=note)]
