"""SoftPrompt: recall of forgotten answers with optimised vectors after the question."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from lit_unlearn.attacks.inputs import AttackRow, embeddings_of, split_prompt, virtual_tokens
from lit_unlearn.attacks.soft_prompt import Descent, optimise, virtual_ids
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Probe, Probes, Subject
from lit_unlearn.evaluation.suites.optimised_input import OptimisedInput
from lit_unlearn.types import Example

__all__ = ["SoftPrompt"]

_AFFIRMATIVE, _GOLD = "affirmative", "gold_target"


@dataclass
class SoftPrompt(OptimisedInput):
    """Recall of forgotten answers with continuous vectors after the question, for open weights.

    Group `affirmative`: one sequence of vectors is optimised on some of the rows until the model
    opens its answers with `opener`. It is tested on the other rows, whose answers it cannot contain
    (Schwinn et al. 2024, arXiv 2402.09063, the universal attack). Group `gold_target`, with
    `upper_bound`: vectors are optimised for every row with its gold answer as target. Such vectors
    can make a model say what it never knew (Chen et al. 2025, arXiv 2502.15836): their recall is an
    upper bound, to be compared with that of a model that never saw the rows.

    Args:
        descent: Settings of the optimisation.
        upper_bound: Also attack with the gold answers as targets; costs an optimisation per row.
    """

    name: ClassVar[str] = "soft_prompt"

    descent: Descent = field(default_factory=Descent)
    upper_bound: bool = False

    def attacks(self) -> dict[str, str]:
        bound = "upper bound: the target is the gold answer itself"
        return {_AFFIRMATIVE: ""} | ({_GOLD: bound} if self.upper_bound else {})

    def target(self, group: str, row: Example) -> str:
        return row.answer if group == _GOLD else self.opener

    def rows_read(self, probes: Probes) -> float:
        bound = sum(probe.group == _GOLD for probe in probes)
        return 3 * self.descent.steps * (len(self._mine) + bound)

    def attacked(self, subject: Subject, group: str, probes: Sequence[Probe]) -> list[str]:
        parts = [split_prompt(subject.encoder, p.turns, plain=p.plain) for p in probes]
        if group == _AFFIRMATIVE:
            vectors = self.fitted(subject)
        else:  # vectors for each row
            rows = [
                AttackRow(*part, _gold_ids(subject, probe))
                for part, probe in zip(parts, probes, strict=True)
            ]
            vectors = optimise(
                subject.model, rows, self.descent, shared=False, batch_size=self.batch_size
            ).vectors
        size = embeddings_of(subject.model).num_embeddings
        ids = virtual_ids(size, len(vectors), self.descent.length)
        insertions = ids * len(parts) if len(ids) == 1 else ids
        prompts = [
            [*before, *inserted, *after]
            for (before, after), inserted in zip(parts, insertions, strict=True)
        ]
        with virtual_tokens(subject.model, vectors.flatten(0, 1)):
            return self.generate(subject, prompts)

    def fit(self, subject: Subject) -> Tensor:
        """Return ``[1, L, D]`` vectors that all rows share."""
        rows = self.rows_to_fit(subject)
        return optimise(subject.model, rows, self.descent, batch_size=self.batch_size).vectors


def _gold_ids(subject: Subject, probe: Probe) -> tuple[int, ...]:
    """Return the token ids of a row's gold answer, with its end of turn."""
    encoded = subject.encoder.encode(probe.example, probe.candidates["target"])
    if encoded is None:
        raise InputError(
            f"Row {probe.example.example_id!r} should have a prompt and an answer. Found none that "
            "can be encoded; remove the row."
        )
    return encoded.student_ids[encoded.student_start :]
