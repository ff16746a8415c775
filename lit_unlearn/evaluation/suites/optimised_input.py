"""Base class of attacks that optimise an insertion on some rows and test it on other rows."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

from lit_unlearn.attacks.inputs import AttackRow, opener_ids, split_prompt
from lit_unlearn.data.sources import Source
from lit_unlearn.evaluation.asking import replies
from lit_unlearn.evaluation.probes import (
    Effort,
    Generation,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Subject,
    Suite,
    SuiteResult,
    Variant,
)
from lit_unlearn.evaluation.suites.common import builtin_forget, probe_of, subject_outcomes
from lit_unlearn.evaluation.suites.recall import load_targets
from lit_unlearn.evaluation.suites.recovery import (
    UNATTACKED,
    attack_result,
    check_whole,
    split_rows,
)
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.types import Example
from lit_unlearn.utils.grouping import grouped

__all__ = ["OptimisedInput"]


@dataclass
class OptimisedInput(Suite):
    """The base class of `SoftPrompt` and `Gcg`.

    A text or vectors, inserted after the question, are optimised on some rows until the model opens
    its answers with a target. The other rows are asked with and without the insertion.

    Args:
        sources: Rows whose answers should be forgotten.
        attack_share: Share of the rows on which the attack is optimised, above 0 and below 1; the
            others are probed.
        opener: The target: the beginning of a compliant reply, without any part of the answer. It
            is removed from a reply before scoring.
        seed: Seed of the split.
        max_new_tokens: Maximum number of tokens of a reply.
        batch_size: Rows in one forward pass.
    """

    takes_condition: ClassVar[bool] = False

    sources: list[Source] = field(default_factory=builtin_forget)
    attack_share: float = 0.5
    opener: str = "Sure, here is the answer:"
    seed: int = 0
    max_new_tokens: int = 48
    batch_size: int = 8

    def __post_init__(self) -> None:
        self._mine: list[Example] = []
        self._fitted: dict[str, Any] = {}

    @abstractmethod
    def attacks(self) -> dict[str, str]:
        """Return the note of the figures of each group of attacked probes."""

    @abstractmethod
    def attacked(self, subject: Subject, group: str, probes: Sequence[Probe]) -> list[str]:
        """Return the replies to probes of a group under attack."""

    @abstractmethod
    def fit(self, subject: Subject) -> Any:
        """Return the insertion for all rows, optimised for a model."""

    def fitted(self, subject: Subject) -> Any:
        """Return the result of `fit`, computed once for each model; call `probes` first."""
        if subject.fingerprint not in self._fitted:
            self._fitted = {subject.fingerprint: self.fit(subject)}
        return self._fitted[subject.fingerprint]

    def generate(self, subject: Subject, prompts: Sequence[Sequence[int]]) -> list[str]:
        """Return the greedy replies to prompts, given as token ids."""
        return generate_answers(
            cast("Any", subject.model),
            subject.tokenizer,
            prompts,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            thoughts=subject.encoder.thoughts,
        )

    def target(self, group: str, row: Example) -> str:
        """Return the text that the attack of a group makes likely after a row's question."""
        return self.opener

    def probes(self, data_root: Path | None) -> list[Probe]:
        """Return plain and attacked probes; keep the attack's rows for `answer`.

        The target of an attacked probe is a candidate, and hence part of the key of the stored
        outcome; it is not teacher-forced.
        """
        self._mine, held_out = self._split(data_root)
        generation = Generation(self.max_new_tokens)
        plain = [probe_of(row, UNATTACKED, generation) for row in held_out]
        return plain + [
            probe_of(row, group, generation, {"target": self.target(group, row)})
            for group in self.attacks()
            for row in held_out
        ]

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        """Return the subject alone; the key contains the attack's rows."""
        check_whole(self.name, subject.model)
        mine, _ = self._split(data_root)
        return [Variant("", repr(mine), lambda: subject.model)]

    @abstractmethod
    def rows_read(self, probes: Probes) -> float:
        """Return the number of rows that the search reads; a backward pass counts as two."""

    def effort(self, probes: Probes) -> Effort:
        return Effort(rows=self.rows_read(probes))

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        found: dict[str, str] = {}
        for group, members in grouped(probes, lambda probe: probe.group).items():
            if group == UNATTACKED:
                said = [reply for (reply,) in replies(subject, members, self.batch_size)]
            else:
                said = self.attacked(subject, group, members)
                said = [reply.removeprefix(self.opener).strip() for reply in said]
            found |= {probe.probe_id: reply for probe, reply in zip(members, said, strict=True)}
        return [Outcome(probe.probe_id, replies=(found[probe.probe_id],)) for probe in probes]

    def answer_key(self) -> str:
        return repr(self)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        pairs = subject_outcomes(probes, outcomes)
        return attack_result(grouped(pairs, lambda pair: pair[0].group), self.attacks())

    def rows_to_fit(self, subject: Subject) -> list[AttackRow]:
        """Return the prompts on which the attack is optimised, with the opener as target."""
        encoder, found = subject.encoder, []
        for row in self._mine:
            target = opener_ids(encoder, row.turns, self.opener, plain=row.plain)
            found.append(AttackRow(*split_prompt(encoder, row.turns, plain=row.plain), target))
        return found

    def _split(self, data_root: Path | None) -> tuple[list[Example], list[Example]]:
        rows = load_targets(self.sources, data_root, self.name)
        return split_rows(rows, self.attack_share, self.seed)
