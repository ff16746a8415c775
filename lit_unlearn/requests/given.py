"""Rows of a request as they were given, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.requests.battery import qa_lines
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

    @property
    def digest(self) -> str:
        """SHA-256 of all rows."""
        parts = (self.forget, self.neighbors, self.general)
        return json_digest([[text.digest for text in part] for part in parts])


def read_given(request: Request, folder: Path) -> Given:
    """Read the rows of a request; those in the request itself are written to a folder first.

    Raises:
        InputError: Rows cannot be found or used, or a question is both to forget and to keep.
    """
    forget = request.forget
    texts = "".join(json_text({"text": text}) + "\n" for text in forget.texts)
    sources = list(forget.rows)
    inline: dict[Domain, str] = {"passage": texts, "question_answer": qa_lines(forget.questions)}
    for domain, lines in inline.items():
        if lines:
            file = folder / f"given_{domain}.jsonl"
            write_text(file, lines)
            sources.append(Source(str(file), domain=domain))
    keep = request.keep
    given = Given(sources, *map(read, (sources, keep.neighbors, keep.general)))
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
    if both:
        # without the question, as messages of a command are often stored
        raise InputError(
            f"Parameters `forget` and `keep` should have different questions. Found {len(both)} in "
            f"both, such as row {both[0][0]} of `forget` and row {both[0][1]} of `keep`; remove "
            "them from one."
        )
