"""Relearn: recall of forgotten answers after a few steps of fine-tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from lit_unlearn.attacks.relearning import FineTuning, Relearning
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import Effort, Probes, Subject, Variant
from lit_unlearn.evaluation.suites.recovery import split_rows
from lit_unlearn.evaluation.suites.tampering import Tampering
from lit_unlearn.types import EncodedExample, Example, Representation

__all__ = ["Relearn"]

_FORGET = "forget"


def _harmless() -> dict[str, list[Source]]:
    return {
        "benign": [Source("builtin:neighbor", split="train")],
        "unrelated": [Source("builtin:instructions")],
    }


@dataclass
class Relearn(Tampering):
    """The recovery curve: recall of forgotten answers that are not in the fine-tuning rows.

    A copy of the model is fine-tuned on some of the forget rows, and further copies on rows that
    hold no forgotten answer; the other forget rows are asked after each number of steps. An answer
    that returns was hidden, not removed. Rows about the same person or text are on both sides of
    the split, as in a real attack, but the same question never is. The group `unattacked` is step
    0, the unchanged model; the curve of a set of rows is `<rows>/<rate>/<step>/recall`, without the
    rate if there is only one. Protocols after Łucki et al. 2024 (arXiv 2409.18025) and Fan et al.
    2025 (arXiv 2502.05374).

    Args:
        attack_share: Share of the rows that is used for fine-tuning, above 0 and below 1; the
            others are probed.
        others: Further sets of fine-tuning rows, by name, such as `{retain: [...], text: [...]}`.
            Each starts from the unchanged model; rows that ask a probed question are left out. By
            default questions near the built-in topic, and instructions on anything else.
        representation: Form of `others`: `raw` takes passages as plain text.
        steps: Numbers of steps after which the copy is probed.
        rates: Learning rates, each with all `steps`; empty for that of `fine_tuning`.
        fine_tuning: Settings of the fine-tuning.
        seed: Seed of the split.
    """

    name: ClassVar[str] = "relearn"

    attack_share: float = 0.5
    others: dict[str, list[Source]] = field(default_factory=_harmless)
    representation: Representation = "unified"
    steps: list[int] = field(default_factory=lambda: [5, 10, 20])
    rates: list[float] = field(default_factory=list)
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1:
            raise InputError(
                f"Parameter `steps` should list numbers of at least 1. Found {self.steps}."
            )
        for rate in self.rates:
            check_number("rates", rate, 0)
        if _FORGET in self.others:
            raise InputError(
                f"Parameter `others` should not use the name {_FORGET!r}. Found it; rename the set."
            )

    def asked(self, rows: list[Example]) -> list[Example]:
        return split_rows(rows, self.attack_share, self.seed)[1]

    def changes(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        """Return a copy for each set of rows, each rate and each number of steps.

        Only one copy is in memory at a time; a later step continues from an earlier one.
        """
        running: dict[tuple[str, float], Relearning] = {}
        found: list[Variant] = []
        trunk: dict[tuple[int, ...], Tensor] = {}
        rates = sorted({*self.rates} or {self.fine_tuning.learning_rate})
        for name, rows in self._sets(data_root).items():
            encoded = _encoded(rows, subject)
            for rate in rates:
                settings = replace(self.fine_tuning, learning_rate=rate)
                running[name, rate] = Relearning(subject.model, encoded, settings, trunk)
                at = f"{name}/{rate:g}" if len(rates) > 1 else name
                for step in sorted({*self.steps}):
                    make = partial(_continued, running, (name, rate), step)
                    found.append(Variant(f"{self.name}/{at}/{step}", f"{settings} {rows}", make))
        return found

    def effort(self, probes: Probes) -> Effort:
        runs = (1 + len(self.others)) * len({*self.rates} or {0})
        learnt = runs * max(self.steps) * self.fine_tuning.batch_size
        return Effort(models=1 + runs * len({*self.steps}), rows=3 * learnt)

    def _sets(self, data_root: Path | None) -> dict[str, list[Example]]:
        """Return the rows of each set to fine-tune on, without any probed question."""
        rows = self.rows(data_root)
        mine, held_out = split_rows(rows, self.attack_share, self.seed)
        asked = {*map(_text, held_out)}
        sets = {_FORGET: mine} | {
            name: load_examples(sources, data_root, self.representation)
            for name, sources in self.others.items()
        }
        return {name: [r for r in own if _text(r) not in asked] for name, own in sets.items()}


def _text(row: Example) -> str:
    """Return the question of a row, or the text of a bare passage, regardless of case."""
    return (row.question.strip() or row.answer.strip()).casefold()


def _encoded(rows: Sequence[Example], subject: Subject) -> list[EncodedExample]:
    encoded = (subject.encoder.encode(row, row.answer) for row in rows)
    return [row for row in encoded if row is not None]


def _continued(
    running: Mapping[tuple[str, float], Relearning], name: tuple[str, float], step: int
) -> nn.Module:
    """Return the copy of a set and rate after `step` steps; release the other copies."""
    for other, relearning in running.items():
        if other != name:
            relearning.release()
    return running[name].at(step)
