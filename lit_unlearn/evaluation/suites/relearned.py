"""Relearn: recall of forgotten answers after a few steps of fine-tuning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from torch import nn

from lit_unlearn.attacks.relearning import FineTuning, Relearning
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
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
    split_rows,
)
from lit_unlearn.types import Example, Representation

__all__ = ["Relearn"]

_FORGET = "forget"


@dataclass
class Relearn(Suite):
    """The recovery curve: recall of forgotten answers that are not in the fine-tuning rows.

    A copy of the model is fine-tuned on some of the forget rows; the others are probed after each
    number of steps. An answer that returns was hidden, not removed. Rows about the same person or
    text are on both sides of the split, as in a real attack. The group `unattacked` is step 0, the
    unchanged model; the curve of a set of rows is `<rows>/<step>/recall`. Protocols after Łucki et
    al. 2024 (arXiv 2409.18025) and Fan et al. 2025 (arXiv 2502.05374).

    Args:
        sources: Rows whose answers should be forgotten.
        attack_share: Share of the rows that is used for fine-tuning, above 0 and below 1; the
            others are probed.
        others: Further sets of fine-tuning rows, by name, such as `{retain: [...], text: [...]}`.
            Each starts from the unchanged model; the rows should not contain forgotten answers.
        representation: Form of `others`: `raw` takes passages as plain text.
        steps: Numbers of steps after which the copy is probed.
        fine_tuning: Settings of the fine-tuning.
        seed: Seed of the split.
        max_new_tokens: Maximum number of tokens of a reply.
    """

    name: ClassVar[str] = "relearn"

    sources: list[Source] = field(default_factory=builtin_forget)
    attack_share: float = 0.5
    others: dict[str, list[Source]] = field(default_factory=dict)
    representation: Representation = "unified"
    steps: list[int] = field(default_factory=lambda: [5, 10, 20])
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    seed: int = 0
    max_new_tokens: int = 48

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1:
            raise InputError(
                f"Parameter `steps` should list numbers of at least 1. Found {self.steps}."
            )
        if _FORGET in self.others:
            raise InputError(
                f"Parameter `others` should not use the name {_FORGET!r}. Found it; rename the set."
            )

    def probes(self, data_root: Path | None) -> list[Probe]:
        _, held_out = self._split(data_root)
        generation = Generation(self.max_new_tokens)
        return [probe_of(row, UNATTACKED, generation, {"answer": row.answer}) for row in held_out]

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        """Return the subject, and a copy for each number of steps on each set of rows.

        Only one copy is in memory at a time; a later step continues from an earlier one.
        """
        check_whole(self.name, subject.model)
        mine, _ = self._split(data_root)
        sets = {_FORGET: mine} | {
            name: load_examples(sources, data_root, self.representation)
            for name, sources in self.others.items()
        }
        running: dict[str, Relearning] = {}
        for name, rows in sets.items():
            encoded = (subject.encoder.encode(row, row.answer) for row in rows)
            usable = [row for row in encoded if row is not None]
            running[name] = Relearning(subject.model, usable, self.fine_tuning)
        found = [Variant("", "", lambda: subject.model)]
        for name, rows in sets.items():
            for step in sorted(self.steps):
                make = partial(_continued, running, name, step)
                key = f"{self.fine_tuning} {rows}"
                found.append(Variant(f"{self.name}/{name}/{step}", key, make))
        return found

    def effort(self, probes: Probes) -> Effort:
        sets = 1 + len(self.others)
        learnt = sets * max(self.steps) * self.fine_tuning.batch_size
        return Effort(models=1 + sets * len(self.steps), rows=3 * learnt)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        prefix = f"{self.name}/"
        named = {name.removeprefix(prefix): found for name, found in outcomes.items()}
        return attack_result(by_variant(probes, named), {})

    def _split(self, data_root: Path | None) -> tuple[list[Example], list[Example]]:
        rows = load_targets(self.sources, data_root, self.name)
        return split_rows(rows, self.attack_share, self.seed)


def _continued(running: Mapping[str, Relearning], name: str, step: int) -> nn.Module:
    """Return the copy after `step` steps on the set `name`; release the copies of other sets."""
    for other, relearning in running.items():
        if other != name:
            relearning.release()
    return running[name].at(step)
