"""Rows of a request as they were given, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.requests.battery import qa_lines
from lit_unlearn.requests.earlier import Earlier, read_earlier
from lit_unlearn.requests.request import Request
from lit_unlearn.rewriting.source_texts import QA, SourceText, read_texts
from lit_unlearn.types import Domain
from lit_unlearn.utils.digests import json_digest
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.plain_json import json_text

__all__ = ["PASSAGE_WORDS", "QUESTIONS", "Given", "read", "read_given", "ready"]

PASSAGE_WORDS, QUESTIONS = 150, 3
"""Most words of a passage, longer ones are divided; and most questions of each by rule."""


@dataclass(frozen=True)
class Given:
    """Rows of a request as they were given."""

    sources: Sequence[Source]
    """Sources of the rows to forget; inline texts and questions were written to files."""
    forget: Sequence[SourceText]
    neighbors: Sequence[SourceText]
    general: Sequence[SourceText]
    earlier: Earlier = field(default_factory=Earlier)

    @property
    def digest(self) -> str:
        """SHA-256 of all rows."""
        parts = (self.forget, self.neighbors, self.general)
        digests = [[text.digest for text in part] for part in parts]
        return json_digest([*digests, self.earlier.digest] if self.earlier.digest else digests)


def read_given(request: Request, folder: Path) -> Given:
    """Read the rows of a request; those in the request itself are written to a folder first.

    Raises:
        InputError: Rows cannot be found or used, or a question is both to forget, now or in an
            earlier request, and to keep.
    """
    earlier, forget = read_earlier(request, folder.parent), request.forget
    texts = "".join(json_text({"text": text}) + "\n" for text in forget.texts)
    sources = list(forget.rows)
    inline: dict[Domain, str] = {"passage": texts, "question_answer": qa_lines(forget.questions)}
    for domain, lines in inline.items():
        if lines:
            file = folder / f"given_{domain}.jsonl"
            write_text(file, lines)
            sources.append(Source(str(file), domain=domain))
    keep = request.keep
    rows, near, general = map(read, (sources, keep.neighbors, keep.general))
    given = Given(sources, rows, near, general, earlier)
    _check_opposed(given)
    return given


def read(sources: Sequence[Source]) -> list[SourceText]:
    """Read the rows of sources."""
    return read_texts(sources, None, "error", PASSAGE_WORDS, QUESTIONS)


def ready(texts: Iterable[SourceText]) -> list[QA]:
    """Return the questions that need no writer."""
    return [row for text in texts for row in text.ready]


def _check_opposed(given: Given) -> None:
    kept = {
        normalise(row.question): text
        for text in (*given.neighbors, *given.general)
        for row in text.ready
    }
    both = [
        (text.row_id, kept[normalise(row.question)].row_id)
        for text in given.forget
        for row in text.ready
        if normalise(row.question) in kept
    ]
    before = [kept[question].row_id for question in kept if question in given.earlier.questions]
    if before:
        raise InputError(
            f"Parameter `keep` should not have questions that earlier requests "
            f"({', '.join(given.earlier.ids)}) made the model forget. Found {len(before)}, such as "
            f"row {before[0]}; remove them."
        )
    if both:
        # without the question, as messages of a command are often stored
        raise InputError(
            f"Parameters `forget` and `keep` should have different questions. Found {len(both)} in "
            f"both, such as row {both[0][0]} of `forget` and row {both[0][1]} of `keep`; remove "
            "them from one."
        )
