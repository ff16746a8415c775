"""SoftPrompt: recall of the forgotten with optimised vectors after the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from lit_unlearn.attacks.inputs import AttackRow, embeddings_of, split_prompt, virtual_tokens
from lit_unlearn.attacks.soft_prompt import Descent, optimise, virtual_ids
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Probe, Subject
from lit_unlearn.evaluation.suites.optimised_input import OptimisedInput
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.types import Example

__all__ = ["SoftPrompt"]

_AFFIRMATIVE, _GOLD = "affirmative", "gold_target"


@dataclass
class SoftPrompt(OptimisedInput):
    """Recall of the forgotten with continuous vectors after the question, for open weights.

    One sequence of vectors is optimised on some of the rows until the model opens its answers with
    `opener`, and is tested on the others: it cannot carry their answers (group `affirmative`;
    Schwinn et al. 2024, arXiv 2402.09063, the universal attack). With `upper_bound`, every row also
    gets vectors of its own whose target is its gold answer (group `gold_target`). Such vectors can
    make a model say what it never knew (Chen et al. 2025, arXiv 2502.15836): that recall is an
    upper bound, and says something only beside that of a model which never saw the rows.

    Args:
        descent: Settings of the optimisation.
        upper_bound: Also attack with the gold answers as targets; costs a descent for every row.
    """

    name: ClassVar[str] = "soft_prompt"

    descent: Descent = field(default_factory=Descent)
    upper_bound: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._shared: dict[str, Tensor] = {}

    def attacks(self) -> dict[str, str]:
        bound = "upper bound: the target is the gold answer itself"
        return {_AFFIRMATIVE: ""} | ({_GOLD: bound} if self.upper_bound else {})

    def target(self, group: str, row: Example) -> str:
        return row.answer if group == _GOLD else self.opener

    def attacked(self, subject: Subject, group: str, probes: Sequence[Probe]) -> list[str]:
        parts = [split_prompt(subject.encoder, p.turns, plain=p.plain) for p in probes]
        if group == _AFFIRMATIVE:
            return self._replies(subject, parts, self._shared_vectors(subject))
        rows = [
            AttackRow(*part, _gold_ids(subject, probe))
            for part, probe in zip(parts, probes, strict=True)
        ]
        found = optimise(
            subject.model, rows, self.descent, shared=False, batch_size=self.batch_size
        )
        return self._replies(subject, parts, found.vectors)

    def _shared_vectors(self, subject: Subject) -> Tensor:
        """Return ``[1, L, D]`` vectors, optimised once for each model."""
        if subject.fingerprint not in self._shared:
            rows = self.rows_to_fit(subject)
            found = optimise(subject.model, rows, self.descent, batch_size=self.batch_size)
            self._shared = {subject.fingerprint: found.vectors}
        return self._shared[subject.fingerprint]

    def _replies(
        self,
        subject: Subject,
        parts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        vectors: Tensor,
    ) -> list[str]:
        """Reply to prompts, each with its own vectors or all with the same between its parts."""
        model: Any = subject.model
        ids = virtual_ids(embeddings_of(model).num_embeddings, len(vectors), self.descent.length)
        own = ids * len(parts) if len(ids) == 1 else ids
        prompts = [
            [*before, *inserted, *after]
            for (before, after), inserted in zip(parts, own, strict=True)
        ]
        with virtual_tokens(model, vectors.flatten(0, 1)):
            return generate_answers(
                model,
                subject.tokenizer,
                prompts,
                max_new_tokens=self.max_new_tokens,
                batch_size=self.batch_size,
                thoughts=subject.encoder.thoughts,
            )


def _gold_ids(subject: Subject, probe: Probe) -> tuple[int, ...]:
    """Return the token ids of a row's gold answer, its end of turn included."""
    encoded = subject.encoder.encode(probe.example, probe.candidates["target"])
    if encoded is None:
        raise InputError(
            f"Row {probe.example.example_id!r} should have a prompt and an answer. Found that it "
            "cannot be encoded; leave it out."
        )
    return encoded.student_ids[encoded.student_start :]
