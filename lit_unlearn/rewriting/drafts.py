"""Questions and answers with their origin and the outcome of each check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from lit_unlearn.errors import check_number
from lit_unlearn.rewriting.source_texts import QA, SourceText

__all__ = ["Candidate", "Lost", "Made", "Maker", "Part", "RewriteResult", "RowSettings"]

Part = Literal["forget", "keep", "anchors"]
Maker = Literal["model", "rules", "source"]


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """Settings that decide the rows, besides sources and model; each row's provenance has them.

    Args:
        questions: Largest number of questions per passage or conversation.
        anchors: Anchors for each row to forget; 0 for none. Without a model they are the rows to
            keep whose questions are most similar in form.
        lowest_rating: Lowest rating by the model, from 1 to 5, of passages that are used; 1 skips
            the rating.
        model_checks: Let the model check each question and answer as well (one call each).
        support: Share of an answer's words, without names and numbers, that must be in its source.
        similar: Share of common words above which two questions with the same names count as one.
        forgotten: Further expressions that no anchor may contain, such as the topic's name.
        fall_back: Make rows by rule from a text if all rows that the model wrote were refused.
        attempts: Largest number of attempts to get a reply of the requested form.
        passage_words: Most words of a passage; longer ones are split at ends of sentences.

    Raises:
        InputError: A number is out of its range.
    """

    questions: int = 3
    anchors: int = 2
    lowest_rating: int = 3
    model_checks: bool = False
    support: float = 0.7
    similar: float = 0.8
    forgotten: list[str] = field(default_factory=list)
    fall_back: bool = True
    attempts: int = 3
    passage_words: int = 150

    def __post_init__(self) -> None:
        check_number("questions", self.questions, 1, 20)
        check_number("anchors", self.anchors, 0, 20)
        check_number("lowest_rating", self.lowest_rating, 1, 5)
        check_number("support", self.support, 0, 1)
        check_number("similar", self.similar, 0, 1)
        check_number("attempts", self.attempts, 1, 20)
        check_number("passage_words", self.passage_words, 10, 100_000)

    def row_settings(self) -> dict[str, Any]:
        """Return these settings by name, without those of a derived class."""
        return {each.name: getattr(self, each.name) for each in fields(RowSettings)}


@dataclass(frozen=True)
class Made:
    """Origin of a question."""

    by: Maker
    """Maker of the question: a model, a rule, or its source."""
    model: str = ""
    """Name of the model; for an anchor that a rule chose, of the model that wrote the row to keep.
    """
    identity: str = ""
    """Digest of the model's weights and their dtype, or its settings on the server."""
    prompt: str = ""
    """Version of the prompt."""
    attempt: int = 0


@dataclass(frozen=True)
class Candidate:
    """A question with its answer, and the outcome of each check."""

    part: Part
    row_id: str
    qa: QA
    origin: SourceText
    made: Made
    anchor_of: str = ""
    """Id of the row to forget to which an anchor belongs."""
    checks: Mapping[str, str] = field(default_factory=dict)
    """Reason to refuse it, by check; empty if it passed."""

    @property
    def reasons(self) -> dict[str, str]:
        """Reasons to refuse it, by check."""
        return {name: reason for name, reason in self.checks.items() if reason}

    @property
    def is_accepted(self) -> bool:
        """Whether it passed every check."""
        return not self.reasons

    def checked(self, name: str, reason: str) -> Candidate:
        """Return the candidate with one more check."""
        return replace(self, checks={**self.checks, name: reason})

    def row(self, settings: RowSettings) -> dict[str, Any]:
        """Return the columns that `data.objectives.*.sources` reads, and the provenance."""
        qa = self.qa
        columns: dict[str, Any] = {"id": self.row_id, "question": qa.question, "answer": qa.answer}
        columns["accepted"] = list(qa.accepted)
        if qa.distractors:
            columns["perturbed_answer"] = list(qa.distractors)
        if self.anchor_of:
            columns["anchor_of"] = self.anchor_of
        columns["provenance"] = {
            "source": self.origin.source,
            "row": self.origin.row_id,
            "row_sha256": self.origin.digest,
            **{"made_by" if name == "by" else name: v for name, v in asdict(self.made).items()},
            "settings": settings.row_settings(),
        }
        return columns


@dataclass(frozen=True)
class Lost:
    """A text that gave no question, or a row with fewer anchors than requested."""

    part: Part
    origin: SourceText
    reason: str

    def row(self) -> dict[str, Any]:
        """Return the line for the file of refused rows."""
        origin, reasons = self.origin, {"material": self.reason}
        source = {"row": origin.row_id, "row_sha256": origin.digest, "text": origin.text}
        return {"part": self.part, **source, "reasons": reasons}


@dataclass(frozen=True)
class RewriteResult:
    """All rows, including refused ones, in the order of the sources."""

    candidates: list[Candidate]
    lost: list[Lost]
    settings: RowSettings
    files: list[Path] = field(default_factory=list)
    """Written files, those with rows first; none after a dry run."""

    def accepted(self, part: Part) -> list[Candidate]:
        """Return the rows of one part."""
        return [c for c in self.candidates if c.part == part and c.is_accepted]
