"""A question and answer on its way into the data set: who made it, and what each check said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from lit_unlearn.rewriting.material import QA, Material

Part = Literal["forget", "keep", "anchors"]
Maker = Literal["model", "rules", "source"]


@dataclass(frozen=True)
class Settings:
    """What decides the rows, beside sources and model."""

    questions: int
    anchors: int
    lowest_rating: int
    model_checks: bool
    support: float
    similar: float
    forgotten: tuple[str, ...]
    fall_back: bool
    attempts: int
    passage_words: int


@dataclass(frozen=True)
class Made:
    """How a question came about."""

    by: Maker
    """A model, a rule, or nobody: it was in its source before."""
    model: str = ""
    """Of an anchor that a rule chose: the model that wrote it as a row to keep, if one did."""
    identity: str = ""
    """Of the model: its weights' digest and number format, or its settings on the server."""
    prompt: str = ""
    """Version of the prompt."""
    attempt: int = 0


@dataclass(frozen=True)
class Candidate:
    """A question with its answer, and what each check said."""

    part: Part
    row_id: str
    qa: QA
    material: Material
    made: Made
    anchor_of: str = ""
    """Of an anchor: the id of the row to forget beside which it stands."""
    checks: Mapping[str, str] = field(default_factory=dict)
    """Check -> reason to refuse it; no text where it passed."""

    @property
    def is_accepted(self) -> bool:
        """Whether it passed every check."""
        return not any(self.checks.values())

    def checked(self, name: str, reason: str) -> Candidate:
        """The same with one more check."""
        return replace(self, checks={**self.checks, name: reason})

    def row(self, settings: Settings) -> dict[str, Any]:
        """The columns that `data.objectives.*.sources` reads, and the provenance."""
        columns: dict[str, Any] = {
            "id": self.row_id,
            "question": self.qa.question,
            "answer": self.qa.answer,
            "accepted": list(self.qa.accepted),
        }
        if self.qa.distractors:
            columns["perturbed_answer"] = list(self.qa.distractors)
        if self.anchor_of:
            columns["anchor_of"] = self.anchor_of
        source = {
            "source": self.material.source,
            "row": self.material.row_id,
            "row_sha256": self.material.digest,
        }
        how = {"made_by" if name == "by" else name: v for name, v in asdict(self.made).items()}
        columns["provenance"] = {**source, **how, "settings": asdict(settings)}
        return columns


@dataclass(frozen=True)
class Lost:
    """Material of which no question was made, or fewer anchors than asked for."""

    part: Part
    material: Material
    reason: str

    def row(self) -> dict[str, Any]:
        """For the file of what was refused."""
        return {
            "part": self.part,
            "row": self.material.row_id,
            "row_sha256": self.material.digest,
            "text": self.material.text,
            "reasons": {"material": self.reason},
        }


@dataclass(frozen=True)
class Result:
    """All that was made, the refused included, in the order of the sources."""

    candidates: list[Candidate]
    lost: list[Lost]
    settings: Settings

    def accepted(self, part: Part) -> list[Candidate]:
        """The rows of one part."""
        return [c for c in self.candidates if c.part == part and c.is_accepted]
