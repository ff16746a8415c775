"""Rows of a request as they were given, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from lit_unlearn.utils.plain_json import json_text

__all__ = ["PASSAGE_WORDS", "QUESTIONS", "Given", "read", "read_given", "ready"]

PASSAGE_WORDS, QUESTIONS = 150, 3
"""Most words of a passage, longer ones are divided; and most questions of each by rule."""


@dataclass(frozen=True)
class Given:
    """Rows of a request as they were given."""

    sources: Sequence[Source]
    """Sources of the rows to forget; those of inline texts and questions are `unwritten` files."""
    unwritten: Mapping[str, str]
    """Path -> content of a file of inline texts or questions."""
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
    """Read the rows of a request; nothing is written.

    Args:
        request: The request.
        folder: Folder in which the texts and questions of the request itself will be written.

    Raises:
        InputError: Rows cannot be found or used, or a question is both to forget, now or in an
            earlier request, and to keep.
    """
    earlier, forget = read_earlier(request, folder.parent), request.forget
    texts = "".join(json_text({"text": text}) + "\n" for text in forget.texts)
    inline, unwritten = list[Source](), dict[str, str]()
    both: dict[Domain, str] = {"passage": texts, "question_answer": qa_lines(forget.questions)}
    for domain, lines in both.items():
        if lines:
            source = Source(str(folder / f"given_{domain}.jsonl"), domain=domain)
            inline.append(source)
            unwritten[source.path] = lines
    with _named("forget.rows"):
        rows = read(forget.rows)
    with _named("forget"):
        rows += read(inline, unwritten)
    with _named("keep.neighbors"):
        near = read(request.keep.neighbors)
    with _named("keep.general"):
        general = read(request.keep.general)
    given = Given([*forget.rows, *inline], unwritten, rows, near, general, earlier)
    _check_opposed(given)
    return given


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Let the errors of rows name their place in the request."""
    try:
        yield
    except InputError as error:
        raise InputError(f"`{place}` of the request: {error}") from error


def read(sources: Sequence[Source], unwritten: Mapping[str, str] | None = None) -> list[SourceText]:
    """Read the rows of sources; `unwritten` is as in `read_texts`."""
    return read_texts(sources, None, "error", PASSAGE_WORDS, QUESTIONS, unwritten)


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
