"""Rows as teacher and student see them, before they become token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lit_unlearn.data.answer_spans import span_tokens, spans_of
from lit_unlearn.data.contexts import Context, ContextRow, NoContext, declined_questions
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.errors import InputError
from lit_unlearn.types import EncodedExample, Example, Turn

__all__ = ["Candidates", "Material", "RowView", "context_rows", "views"]


@dataclass(frozen=True)
class RowView:
    """A row with its answer, its prefill and the teacher's conversation."""

    example: Example
    answer: str | None
    prefill: str
    teacher_turns: tuple[Turn, ...]
    unprefilled_turns: tuple[Turn, ...]
    """The teacher's conversation for the version of the row without the prefill."""
    marks: bool = False
    """Whether the tokens that hold the answer's knowledge are looked for."""

    def encode(self, encoder: Encoder) -> EncodedExample | None:
        """Return token ids, or None for a row that the encoder left out and counted."""
        found = encoder.encode(
            self.example,
            self.answer,
            teacher_turns=self.teacher_turns,
            prefill=self.prefill,
            unprefilled_turns=self.unprefilled_turns,
        )
        if found is None or not self.marks:
            return found
        ids, spans = found.student_ids[found.student_start :], spans_of(self.example)
        marked = span_tokens(encoder.tokenizer, ids, self.example.answer, spans)
        return replace(found, marked=tuple(marked))


class Candidates(Sequence[EncodedExample]):
    """Candidates of a row that are encoded when a step asks for them, each once.

    A row with prefills has dozens, of which a run reads a few; to encode all of them before the
    first step took minutes.

    The first and the longest view are encoded at once, so that a row that cannot be encoded is
    found before training. The encoder must raise an error for such a row.

    Raises:
        EncodingError: The row cannot be encoded.
    """

    def __init__(self, views: Sequence[RowView], encoder: Encoder) -> None:
        self._views, self._encoder = views, encoder
        self._known: dict[str, EncodedExample] = {}
        longest = max(range(len(views)), key=lambda index: len(views[index].prefill))
        for index in (0, longest):
            self[index]

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        view = self._views[index]
        if view.prefill not in self._known:
            encoded = view.encode(self._encoder)
            if encoded is None:
                raise ValueError("Parameter `encoder` should have `on_problem` set to error.")
            self._known[view.prefill] = encoded
        return self._known[view.prefill]

    def known(self) -> list[EncodedExample]:
        """Return the candidates that were encoded so far."""
        return list(self._known.values())


@dataclass(frozen=True)
class Material:
    """The rows and data settings of all objectives, from which contexts draw."""

    objectives: Mapping[str, ObjectiveData]
    examples: Mapping[str, Sequence[Example]]
    drawn: Mapping[str, Sequence[Example]] | None = None
    """Rows from which contexts draw, if they are other ones than `examples`."""
    reasoning: dict[str, dict[int, str]] = field(default_factory=dict)
    """Reasoning of the teacher about rows, by objective and index; for `Context.thinking`."""

    @property
    def _pool(self) -> Mapping[str, Sequence[Example]]:
        return self.examples if self.drawn is None else self.drawn

    def declined(self) -> list[str]:
        """Return the questions of all forgotten rows."""
        names = [name for name, data in self.objectives.items() if data.expect == "decline"]
        return declined_questions([row for name in names for row in self._pool[name]])

    def answered(self, name: str | None) -> list[tuple[str, str]]:
        """Return questions and gold answers of an objective that expects answers."""
        if name is None:
            return []
        data = self.objectives.get(name)
        if data is None or data.expect != "answer":
            usable = [n for n, d in self.objectives.items() if d.expect == "answer"]
            raise InputError(
                f"Parameter `answered_from` of a context should name an objective that expects "
                f"answers ({', '.join(usable) or 'there is none'}). Found {name!r}."
            )
        rows = self._pool[name]
        return [(e.question, e.answer) for e in rows if e.answer and e.question.strip()]


def context_rows(
    name: str, indices: Sequence[int], context: Context, material: Material
) -> list[ContextRow]:
    """Return what a context may use for each of these rows, without prefills."""
    data, examples = material.objectives[name], material.examples[name]
    refusals, thoughts = read_refusals(data.refusals), material.reasoning.get(name, {})
    declined, answered = material.declined(), material.answered(context.answered_from)
    return [
        ContextRow(
            examples[index].turns,
            refusals[index % len(refusals)],
            declined=declined,
            answered=answered,
            reasoning=thoughts.get(index, ""),
        )
        for index in indices
    ]


def views(
    name: str,
    indices: Sequence[int],
    context: Context | None,
    material: Material,
    answers: Sequence[str | None],
    *,
    all_prefills: bool,
) -> list[list[RowView]]:
    """Return the rows of these indices under a context (None for nothing), each with its prefills.

    ``answers`` are the texts to predict for each row of the objective; None where there is none.
    ``all_prefills`` takes every prefill of a row, otherwise one, in turn by the row's index.
    """
    data, examples = material.objectives[name], material.examples[name]
    context, prefills = context or NoContext(), data.prefills
    goes_on, rows = data.expect == "answer", context_rows(name, indices, context, material)
    found = []
    for index, row in zip(indices, rows, strict=True):
        example, answer = examples[index], answers[index]
        plain = context.conversation(row)
        if prefills is None:
            found.append([RowView(example, answer, "", plain, plain, data.mark_spans)])
            continue
        chosen = prefills.of(example, answer if goes_on else None)
        own = []
        for prefill in chosen if all_prefills else [chosen[index % len(chosen)]]:
            turns = context.conversation(replace(row, opener=prefill.opener))
            text = prefill.rest if goes_on and answer is not None else answer
            own.append(RowView(example, text, prefill.text, turns, plain))
        found.append(own)
    return found
