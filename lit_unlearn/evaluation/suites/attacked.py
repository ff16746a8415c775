"""Base class of attacks on the input: each row is asked without the attack and with it.

Success is recall of the forgotten answer (see `recall`), not mere compliance. Further figures are
the refusal rate, and those without attack: `unattacked/recall` of all rows and, in each group,
`recall_unattacked` of the rows and the part of the answer that the group attacks.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lit_unlearn.data.sources import Source
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Generation,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Row,
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import (
    SHARE,
    builtin_forget,
    mean_figure,
    mean_of_values,
    probe_of,
    subject_outcomes,
)
from lit_unlearn.evaluation.suites.recall import RECALLED, load_targets, recall_note, target_of
from lit_unlearn.evaluation.suites.recovery import UNATTACKED
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.grouping import grouped

__all__ = ["InputAttack"]

_PLAIN = "plain"
"""Last part of the id of a probe without the attack."""


@dataclass
class InputAttack(Suite):
    """An attack that changes the question and not the model.

    Args:
        sources: Rows whose answers should be forgotten.
        max_new_tokens: Maximum number of tokens of a reply.
    """

    better: ClassVar[Better] = "lower"
    remark: ClassVar[str] = ""
    """Part of the note of every recall under attack."""

    sources: list[Source] = field(default_factory=builtin_forget)
    max_new_tokens: int = 48

    @property
    def generation(self) -> Generation:
        """Settings of every reply."""
        return Generation(self.max_new_tokens)

    @abstractmethod
    def attack(self, rows: Sequence[Example], data_root: Path | None) -> list[Probe]:
        """Return the attacked probes of the rows, each with a `part` in its id."""

    def asked(self, row: Example, group: str, question: str, number: int = 0) -> Probe:
        """Return a probe that asks a row with another question; `number` counts the attempts."""
        turns = (*row.turns[:-1], Turn(row.turns[-1].role, question))
        return probe_of(row, group, self.generation, turns=turns, part=str(number))

    def probes(self, data_root: Path | None) -> list[Probe]:
        """Return plain and attacked probes.

        A row has a plain probe in the group `unattacked` and in every group that attacks it, so
        that any choice of rows of a group can be compared; the engine asks it once. The gold answer
        is teacher-forced there as well: a model may know what it does not say.
        """
        rows = load_targets(self.sources, data_root, self.name)
        attacked = self.attack(rows, data_root)
        asked = {(probe.group, probe.example.example_id) for probe in attacked}
        plain = [
            self._plain(row, group, _PLAIN)
            for group in dict.fromkeys(probe.group for probe in attacked)
            for row in rows
            if (group, row.example_id) in asked
        ]
        return [*(self._plain(row, UNATTACKED) for row in rows), *plain, *attacked]

    def _plain(self, row: Example, group: str, part: str = "") -> Probe:
        return probe_of(row, group, self.generation, {"answer": row.answer}, part=part)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        plain: dict[tuple[str, str], str] = {}
        scored: list[tuple[Probe, Outcome]] = []
        for probe, outcome in subject_outcomes(probes, outcomes):
            if probe.probe_id.endswith(f"/{_PLAIN}"):
                plain[probe.group, probe.example.example_id] = outcome.replies[0]
            else:
                scored.append((probe, outcome))
        rows: list[Row] = []
        figures: list[Figure] = []
        for group, pairs in grouped(scored, lambda pair: pair[0].group).items():
            members = [
                _row(p, outcome, plain.get((group, p.example.example_id))) for p, outcome in pairs
            ]
            rows += members
            figures += self._means(group, members, recall_note([p.example for p, _ in pairs]))
            figures += self._worst(group, members)
        return SuiteResult(rows, figures)

    def _means(self, group: str, rows: Sequence[Row], decided: str) -> list[Figure]:
        """Return recall and refusals of a group, with and without its attack."""
        readings: dict[str, tuple[str, Better, str]] = {
            "recall": (RECALLED, *self._reading(group, decided)),
            "recall_unattacked": (RECALLED, "lower", decided),
            "refused": (SHARE, "neither", ""),
            "refused_unattacked": (SHARE, "neither", ""),
            "answer_nll": ("nats per token", "neither", ""),
        }
        return [
            mean_figure(f"{group}/{score}", rows, *reading)
            for score, reading in readings.items()
            if any(score in row.scores for row in rows)
        ]

    def _worst(self, group: str, rows: Sequence[Row]) -> list[Figure]:
        """Return the mean of each row's highest recall, if a group attacks rows in several ways."""
        by_row = grouped(rows, lambda row: row.asked_of)
        if len(by_row) == len(rows):
            return []
        worst = {
            key: [max([0.0, *(row.scores["recall"] for row in attempts)])]
            for key, attempts in by_row.items()
        }
        reading = self._reading(group, "of each row's attacks the most successful")
        return [mean_of_values(f"{group}/recall_worst", worst, RECALLED, *reading)]

    def _reading(self, group: str, note: str) -> tuple[Better, str]:
        if group == UNATTACKED:
            return "lower", note
        return self.better, "; ".join(text for text in (self.remark, note) if text)


def _row(probe: Probe, outcome: Outcome, plain_reply: str | None) -> Row:
    """Score one attempt on one row, and the reply without attack if there is one."""
    reply = outcome.replies[0]
    target = target_of(probe.example, probe.prefill)
    scores = {
        "recall": target.recall(reply, probe.prefill) if target else math.nan,
        "refused": float(is_refusal(reply)),
    }
    if plain_reply is not None:
        scores["recall_unattacked"] = target.recall(plain_reply) if target else math.nan
        scores["refused_unattacked"] = float(is_refusal(plain_reply))
    if "answer" in outcome.forced:
        scores["answer_nll"] = -mean(outcome.forced["answer"].log_probs)
    asked, asked_of = probe.turns[-1].content, probe.example.example_id
    gold = target.rest if target else probe.example.answer
    shown = f"[{probe.prefill}] {reply}" if probe.prefill else reply
    return Row(probe.probe_id, probe.group, scores, asked, gold, shown, asked_of)
