"""Texts of raw rows from which questions are made: passages, conversations, options, questions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lit_unlearn.data.control_tokens import likely_control_token, report_control_tokens
from lit_unlearn.data.fields import EXPECTED_KEYS, find_key, text_of
from lit_unlearn.data.passages import clozes, sentences
from lit_unlearn.data.raw_rows import BadRows, OnBadRow, RawRow, bad_row
from lit_unlearn.data.readers import parse_file
from lit_unlearn.data.sources import Place, Source, resolve, rows_at
from lit_unlearn.data.unify import domain_of, short_names, to_example
from lit_unlearn.errors import InputError
from lit_unlearn.types import Domain, Example
from lit_unlearn.utils.digests import json_digest
from lit_unlearn.utils.text import count_words

__all__ = ["QA", "SourceText", "cut_passage", "read_texts", "row_digest"]

_WRONG = "\nWrong answer: "
_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class QA:
    """A question with its answer."""

    question: str
    answer: str
    accepted: tuple[str, ...] = ()
    """Further spellings of the answer."""
    distractors: tuple[str, ...] = ()
    """Wrong answers that came with the row."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Question and answers."""
        return (self.question, self.answer, *self.accepted, *self.distractors)


@dataclass(frozen=True)
class SourceText:
    """Content of one raw row, or of one part of a long passage."""

    row_id: str
    """Unique id: ``<source>/<row>``, with ``/part2`` for the second part of a passage."""
    source: str
    """`Source.name`."""
    digest: str
    """SHA-256 of the raw row."""
    domain: Domain
    text: str
    """Text for a model; empty if the row is ready."""
    ready: tuple[QA, ...]
    """Questions and answers by rule."""

    @property
    def is_ready(self) -> bool:
        """Whether the row already is a question with its answer."""
        return not self.text

    @property
    def evidence(self) -> str:
        """Text that must support the answers; it lacks wrong options."""
        return self.text.split(_WRONG)[0] if self.domain == "multiple_choice" else self.text


def read_texts(
    sources: Sequence[Source],
    data_root: Path | None,
    on_bad_row: OnBadRow,
    passage_words: int,
    questions: int,
    unwritten: Mapping[str, str] | None = None,
) -> list[SourceText]:
    """Read all rows of some sources, in their order, and refuse what `unify.load_examples` refuses.

    Passages of more than `passage_words` words are cut into parts, at ends of sentences.
    `questions` is the largest number of questions by rule for each part. `unwritten` has the
    content of files that will be written later, by the path of their source.
    """
    found: dict[str, SourceText] = {}
    for source, name in zip(sources, short_names(sources), strict=True):
        bad, lines = BadRows(on_bad_row, source.name), (unwritten or {}).get(source.path)
        place = resolve(source, data_root) if lines is None else Place(None, source.domain)
        domain = domain_of(source, place)
        rows = (
            rows_at(place, source, bad)
            if lines is None
            else parse_file(lines.encode(), source.path, bad)
        )
        for row in rows:
            try:
                contents = list(_contents(row, domain, name, passage_words, questions))
            except InputError as error:
                bad.add(error)
                continue
            digest = row_digest(row)
            for row_id, text, ready in contents:
                if row_id in found:
                    raise InputError(
                        f"Sources should contain each row once. Found row {row_id!r} twice, from "
                        f"{source.name!r}; change `offset`, `limit` or `where`."
                    )
                found[row_id] = SourceText(row_id, source.name, digest, domain, text, ready)
        bad.report()
        own = [text for text in found.values() if text.source == source.name]
        texts = ((t.row_id, [t.text, *(x for qa in t.ready for x in qa.texts)]) for t in own)
        report_control_tokens(f"Source {source.name!r}", texts, likely_control_token)
    return list(found.values())


def row_digest(row: RawRow) -> str:
    """Return the SHA-256 of a row's values; the order of its columns does not matter."""
    return json_digest(row.values)


def cut_passage(text: str, most: int) -> list[str]:
    """Cut a passage into parts of at most ``most`` words, at ends of sentences.

    A longer sentence is a part by itself.
    """
    parts: list[list[str]] = []
    count = 0
    for sentence in sentences(text):
        length = count_words(sentence)
        if not parts or count + length > most:
            parts.append([])
            count = 0
        parts[-1].append(sentence)
        count += length
    ends = ("\u3002", "\uff01", "\uff1f", "\u300d", "\u201d")
    return ["".join(s if s.endswith(ends) else f"{s} " for s in part).strip() for part in parts]


_Content = tuple[str, tuple[QA, ...]]
"""Text for a model, and the questions and answers by rule."""


def _contents(
    row: RawRow, domain: Domain, name: str, passage_words: int, questions: int
) -> Iterator[tuple[str, str, tuple[QA, ...]]]:
    """Yield id, text and ready questions; several for a long passage."""
    if row.answerless:
        reason = "rows to rewrite should have answers. Found a source without them."
        raise bad_row(row.location, reason)
    row_id = f"{name}/{row.row_id}"
    if domain != "passage":
        (example,) = to_example(row, domain, "unified", name)
        yield (row_id, *_CONTENT[domain](example))
        return
    passage = text_of(row, find_key(row, EXPECTED_KEYS["passage"][0], "passage"))
    for number, part in enumerate(cut_passage(passage, passage_words), start=1):
        # a cloze for a word in lower case has no certain answer
        known = [cloze for cloze in clozes(part, questions) if not cloze.answer.islower()]
        ready = tuple(QA(cloze.question, cloze.answer) for cloze in known)
        yield row_id if number == 1 else f"{row_id}/part{number}", part, ready


def _dialogue(example: Example) -> _Content:
    """Return the conversation, and each question of the user with the reply to it."""
    turns = [
        *((turn.role, turn.content) for turn in example.turns),
        ("assistant", example.answer),
    ]
    text = "\n".join(f"{_SPEAKERS[role]}: {content}" for role, content in turns)
    ready = [QA(a[1], b[1]) for a, b in pairwise(turns) if (a[0], b[0]) == ("user", "assistant")]
    return text, tuple(ready)


def _multiple_choice(example: Example) -> _Content:
    """Return question and options, and the question without options."""
    wrong = "".join(f"{_WRONG}{text}" for text in example.distractors)
    text = f"Question: {example.question}\nRight answer: {example.answer}{wrong}"
    return text, (QA(example.question, example.answer, (), example.distractors),)


def _ready(example: Example) -> _Content:
    return "", (QA(example.question, example.answer, example.accepted, example.distractors),)


_CONTENT: dict[Domain, Callable[[Example], _Content]] = {
    "dialogue": _dialogue,
    "multiple_choice": _multiple_choice,
    "question_answer": _ready,
    "instruction": _ready,
    "preference": _dialogue,
}
