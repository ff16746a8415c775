"""Raw rows -> what there is to ask about: passages, conversations, options, or ready questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lit_unlearn.data.fields import EXPECTED_KEYS, find_key, text_of
from lit_unlearn.data.passages import clozes, sentences
from lit_unlearn.data.readers import BadRows, OnBadRow, RawRow, bad_row
from lit_unlearn.data.sources import Source, resolve, rows_at
from lit_unlearn.data.unify import domain_of, short_names, to_example
from lit_unlearn.errors import InputError
from lit_unlearn.types import Domain, Example
from lit_unlearn.utils.digests import json_digest

_WRONG = "\nWrong answer: "
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class QA:
    """A question with its answer."""

    question: str
    answer: str
    accepted: tuple[str, ...] = ()
    """Further spellings of the answer."""
    distractors: tuple[str, ...] = ()
    """Wrong answers that came with the row."""


@dataclass(frozen=True)
class Material:
    """What one raw row gives, or one part of a long passage."""

    row_id: str
    """``<source>/<row>``, and ``/part2`` for the second part of a passage; unique."""
    source: str
    """`Source.name`."""
    digest: str
    """SHA-256 of the raw row."""
    domain: Domain
    text: str
    """What a model reads; empty where `ready` is final."""
    ready: tuple[QA, ...]
    """Questions and answers by rule."""

    @property
    def is_ready(self) -> bool:
        """The row was a question with its answer before: nothing is to be written."""
        return not self.text

    @property
    def evidence(self) -> str:
        """What has to support the answers: the text without wrong options."""
        return self.text.split(_WRONG)[0] if self.domain == "multiple_choice" else self.text


def read_material(
    sources: Sequence[Source],
    data_root: Path | None,
    on_bad_row: OnBadRow,
    passage_words: int,
    questions: int,
) -> list[Material]:
    """All that the sources give, in their order.

    Args:
        sources: Where the rows come from.
        data_root: As in `sources.resolve`.
        on_bad_row: As in `sources.read_rows`.
        passage_words: Longer passages are cut into parts, at ends of sentences.
        questions: Most questions by rule for each part of a passage.

    Raises:
        InputError: As in `unify.load_examples`.
    """
    found: dict[str, Material] = {}
    for source, name in zip(sources, short_names(sources), strict=True):
        place = resolve(source, data_root)
        domain, bad = domain_of(source, place), BadRows(on_bad_row, source.name)
        for row in rows_at(place, source, bad):
            try:
                parts = _material(row, domain, name, source.name, passage_words, questions)
            except InputError as error:
                bad.add(error)
                continue
            for part in parts:
                if part.row_id in found:
                    raise InputError(
                        f"Sources should give each row once. Found row {part.row_id!r} twice, from "
                        f"{source.name!r}; change `offset`, `limit` or `where`."
                    )
                found[part.row_id] = part
        bad.report()
    return list(found.values())


def _material(
    row: RawRow, domain: Domain, name: str, source: str, passage_words: int, questions: int
) -> list[Material]:
    if row.answerless:
        raise bad_row(
            row.location, "rows to rewrite should have answers. Found a source without them."
        )
    made = f"{name}/{row.row_id}"
    digest = row_digest(row)
    if domain == "passage":
        text = text_of(row, find_key(row, EXPECTED_KEYS["passage"][0], "passage"))
        return [
            Material(
                made if number == 1 else f"{made}/part{number}",
                *(source, digest, domain, part),
                _blanks(part, questions),
            )
            for number, part in enumerate(cut_passage(text, passage_words), start=1)
        ]
    (example,) = to_example(row, domain, "unified", name)
    text, ready = _OTHERS[domain](example)
    return [Material(made, source, digest, domain, text, ready)]


def _blanks(text: str, most: int) -> tuple[QA, ...]:
    """Sentences with a name or a number taken out; other words can be guessed from nothing."""
    found = (QA(cloze.question, cloze.answer) for cloze in clozes(text, most))
    return tuple(qa for qa in found if not qa.answer.islower())


def row_digest(row: RawRow) -> str:
    """SHA-256 of a row's values, whatever the order of its columns."""
    return json_digest(row.values)


def cut_passage(text: str, most: int) -> list[str]:
    """A passage in parts of at most ``most`` words, cut at ends of sentences.

    A single sentence that is longer stays whole.
    """
    parts: list[list[str]] = []
    count = 0
    for sentence in sentences(text):
        length = len(sentence.split())
        if not parts or count + length > most:
            parts.append([])
            count = 0
        parts[-1].append(sentence)
        count += length
    return [" ".join(part) for part in parts]


def _dialogue(example: Example) -> tuple[str, tuple[QA, ...]]:
    """The conversation; by rule each question of the user with the reply to it."""
    said = [*((turn.role, turn.content) for turn in example.turns), ("assistant", example.answer)]
    text = "\n".join(f"{SPEAKERS[role]}: {content}" for role, content in said)
    ready = [QA(a[1], b[1]) for a, b in pairwise(said) if (a[0], b[0]) == ("user", "assistant")]
    return text, tuple(ready)


def _multiple_choice(example: Example) -> tuple[str, tuple[QA, ...]]:
    """Question, right answer and the other options; by rule the open question."""
    wrong = "".join(f"{_WRONG}{text}" for text in example.distractors)
    text = f"Question: {example.question}\nRight answer: {example.answer}{wrong}"
    return text, (QA(example.question, example.answer, (), example.distractors),)


def _ready(example: Example) -> tuple[str, tuple[QA, ...]]:
    return "", (QA(example.question, example.answer, example.accepted, example.distractors),)


_OTHERS: dict[Domain, Callable[[Example], tuple[str, tuple[QA, ...]]]] = {
    "dialogue": _dialogue,
    "multiple_choice": _multiple_choice,
    "question_answer": _ready,
    "instruction": _ready,
}
