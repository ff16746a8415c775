"""Pruned: recall of forgotten answers after the smallest weights are removed."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from lit_unlearn.attacks.pruning import check_share, pruned_copy
from lit_unlearn.evaluation.probes import Effort, Probes, Subject, Variant
from lit_unlearn.evaluation.suites.tampering import Tampering

__all__ = ["Pruned"]


@dataclass
class Pruned(Tampering):
    """Recall of forgotten answers after the smallest weights of each matrix are set to zero.

    In every linear layer except the output head, the given share of the weights with the smallest
    magnitude becomes 0. Pruning is common in deployment.

    Args:
        shares: Shares of each matrix, 0 to 1; one variant for each value, named `pruned<share>`.
    """

    name: ClassVar[str] = "pruned"

    shares: list[float] = field(default_factory=lambda: [0.1, 0.3])

    def __post_init__(self) -> None:
        for share in self.shares:
            check_share(share)

    def changes(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        return [
            Variant(f"pruned{share:g}", "", partial(pruned_copy, subject.model, share))
            for share in self.shares
        ]

    def effort(self, probes: Probes) -> Effort:
        return Effort(models=1 + len(self.shares))
