"""Gcg: recall of forgotten answers with an optimised text after the question."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lit_unlearn.attacks.gcg import Search, printable_tokens, search_suffix
from lit_unlearn.attacks.inputs import AttackRow, embeddings_of, extended
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Probe, Probes, Subject
from lit_unlearn.evaluation.suites.optimised_input import OptimisedInput
from lit_unlearn.types import Example

__all__ = ["Gcg", "inserted_text", "start_ids"]

_GROUP = "gcg"


@dataclass
class Gcg(OptimisedInput):
    """Recall of forgotten answers with an optimised suffix of ordinary text.

    Greedy Coordinate Gradient (Zou et al. 2023, arXiv 2307.15043) searches one suffix on some of
    the rows until the model opens its answers with `opener`; the suffix is tested as text on the
    other rows. Each step costs `search.width` forward passes per row. The default budget is small,
    for a CPU; a low recall shows only that this budget did not suffice.

    Args:
        start: Suffix from which the search starts; the result has the same number of tokens.
        search: Settings of the search.
    """

    name: ClassVar[str] = "gcg"

    start: str = " !" * 20
    search: Search = field(default_factory=Search)

    def attacks(self) -> dict[str, str]:
        return {_GROUP: f"{self.search.steps} steps of {self.search.width} candidates"}

    def rows_read(self, probes: Probes) -> float:
        return len(self._mine) * self.search.steps * (3 + self.search.width)

    def attacked(self, subject: Subject, group: str, probes: Sequence[Probe]) -> list[str]:
        encoder, suffix = subject.encoder, self.fitted(subject)
        prompts = [encoder.prompt_ids(extended(p.turns, suffix), plain=p.plain) for p in probes]
        return self.generate(subject, prompts)

    def fit(self, subject: Subject) -> str:
        encoder, rows = subject.encoder, self.rows_to_fit(subject)

        def survives(ids: Sequence[int]) -> bool:
            text = inserted_text(encoder, rows[0], ids)
            return all(
                encoder.prompt_ids(extended(example.turns, text), plain=example.plain)
                == row.prompt(ids)
                for example, row in zip(self._mine, rows, strict=True)
            )

        start = start_ids(encoder, self._mine[0], rows[0], self.start)
        allowed = printable_tokens(subject.tokenizer, embeddings_of(subject.model).num_embeddings)
        found = search_suffix(
            subject.model, rows, start, allowed, survives, self.search, batch_size=self.batch_size
        )
        return inserted_text(encoder, rows[0], found.ids)


def start_ids(encoder: Encoder, example: Example, row: AttackRow, text: str) -> list[int]:
    """Return the token ids of a text after a question; refuse it if their tokens merge."""
    whole = encoder.prompt_ids(extended(example.turns, text), plain=example.plain)
    ids = whole[len(row.before) : len(whole) - len(row.after)]
    if not ids or whole != row.prompt(ids):
        raise InputError(
            "Parameter `start` should be a text whose tokens do not merge with the question's. "
            f"Found {text!r}; begin it with a space and end it with a letter or sign."
        )
    return ids


def inserted_text(encoder: Encoder, row: AttackRow, ids: Sequence[int]) -> str:
    """Return the decoded text of token ids that follow a question, with its spaces."""
    tokenizer: Any = encoder.tokenizer
    before, whole = (
        tokenizer.decode(part, clean_up_tokenization_spaces=False)
        for part in (list(row.before), [*row.before, *ids])
    )
    return str(whole[len(before) :])
