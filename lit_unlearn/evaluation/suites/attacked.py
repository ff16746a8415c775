"""What attacks on the input have in common: each row asked as it is, and once more attacked.

Success is recall of the forgotten answer (see `common`), never mere compliance. Beside it stand
the refusal rate, and what the same rows give without attack: `unattacked/recall` of all rows, and
in each group `recall_unattacked`, of the very rows and the very part of the answer attacked there.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Generation,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Row,
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import (
    RECALLED,
    SHARE,
    answerable,
    ask,
    mean_figure,
    recall_note,
    subject_outcomes,
    target_of,
)
from lit_unlearn.evaluation.suites.recovery import UNATTACKED
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.types import Example

_PLAIN = "plain"
"""Last part of the id of a probe that asks a row of a group without the attack."""


def builtin_forget() -> list[Source]:
    """The rows that are attacked by default."""
    return [Source("builtin:forget", split="eval")]


@dataclass
class InputAttack(Suite):
    """An attack that changes what is asked, and leaves the model as it is.

    Args:
        sources: Rows whose answers should be gone.
        max_new_tokens: Longest reply in tokens.
    """

    better: ClassVar[Better] = "lower"
    remark: ClassVar[str] = ""
    """Stands in the note of every recall under attack."""

    sources: list[Source] = field(default_factory=builtin_forget)
    max_new_tokens: int = 48

    @property
    def generation(self) -> Generation:
        """How every reply is made."""
        return Generation(self.max_new_tokens)

    @abstractmethod
    def attack(self, rows: Sequence[Example], data_root: Path | None) -> list[Probe]:
        """The attacked probes of these rows, each with a `part` in its id."""

    def probes(self, data_root: Path | None) -> list[Probe]:
        """See `Suite.probes`.

        A row is asked without attack in a group of its own, and in every group it is attacked in,
        so that any choice of rows of a group can be compared; the engine asks it once.
        """
        rows = answerable(load_examples(self.sources, data_root), self.name)
        attacked = self.attack(rows, data_root)
        asked = {(probe.group, probe.example.example_id) for probe in attacked}
        plain = [
            ask(row, group, self.generation, part=_PLAIN)
            for group in dict.fromkeys(probe.group for probe in attacked)
            for row in rows
            if (group, row.example_id) in asked
        ]
        return [*(ask(row, UNATTACKED, self.generation) for row in rows), *plain, *attacked]

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        plain: dict[tuple[str, str], str] = {}
        scored: list[tuple[Probe, str]] = []
        for probe, outcome in subject_outcomes(probes, outcomes):
            if probe.probe_id.endswith(f"/{_PLAIN}"):
                plain[probe.group, probe.example.example_id] = outcome.replies[0]
            else:
                scored.append((probe, outcome.replies[0]))
        groups: dict[str, list[tuple[Example, Row]]] = {}
        for probe, reply in scored:
            without = plain.get((probe.group, probe.example.example_id))
            pair = (probe.example, _row(probe, reply, without))
            groups.setdefault(probe.group, []).append(pair)
        return SuiteResult(
            [row for members in groups.values() for _, row in members],
            [
                figure
                for group, members in groups.items()
                for figure in [*self._means(group, members), *self._worst(group, members)]
            ],
        )

    def _means(self, group: str, members: Sequence[tuple[Example, Row]]) -> list[Figure]:
        """Recall and refusals of one group, with its attack and without."""
        keys = [example.example_id for example, _ in members]
        decided = recall_note([example for example, _ in members])
        kinds: tuple[tuple[str, str, Better, str], ...] = (
            ("recall", RECALLED, *self._reading(group, decided)),
            ("recall_unattacked", RECALLED, "lower", decided),
            ("refused", SHARE, "neither", ""),
            ("refused_unattacked", SHARE, "neither", ""),
        )
        return [
            mean_figure(f"{group}/{kind}", values, keys, unit=unit, better=better, note=note)
            for kind, unit, better, note in kinds
            if (values := [row.scores[kind] for _, row in members if kind in row.scores])
        ]

    def _worst(self, group: str, members: Sequence[tuple[Example, Row]]) -> list[Figure]:
        """The highest recall of each row, where a group attacks rows in several ways."""
        best: dict[str, float] = {}
        for example, row in members:
            key = example.example_id
            best[key] = max(best.get(key, 0.0), row.scores["recall"])
        if len(best) == len(members):
            return []
        better, note = self._reading(group, "of each row's attacks the most successful")
        values, name = list(best.values()), f"{group}/recall_worst"
        return [mean_figure(name, values, list(best), unit=RECALLED, better=better, note=note)]

    def _reading(self, group: str, note: str) -> tuple[Better, str]:
        """How a recall is to be read."""
        if group == UNATTACKED:
            return "lower", note
        return self.better, "; ".join(text for text in (self.remark, note) if text)


def _row(probe: Probe, reply: str, without: str | None) -> Row:
    """One attempt on one row, beside the reply without attack where there is one."""
    target = target_of(probe.example, probe.prefill)
    scores = {
        "recall": target.recall(reply, probe.prefill) if target else math.nan,
        "refused": float(is_refusal(reply)),
    }
    if without is not None:
        scores["recall_unattacked"] = target.recall(without) if target else math.nan
        scores["refused_unattacked"] = float(is_refusal(without))
    return Row(
        row_id=probe.probe_id,
        group=probe.group,
        scores=scores,
        question=probe.turns[-1].content,
        gold=target.rest if target else probe.example.answer,
        reply=f"[{probe.prefill}] {reply}" if probe.prefill else reply,
        asked_of=probe.example.example_id,
    )
