"""Results of the preparation that cost time, on disk for the next run with the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.training.setup.teacher_gate import Gate, GateRow
from lit_unlearn.types import Example
from lit_unlearn.utils.digests import checked_text, read_checked_json, text_digest
from lit_unlearn.utils.ownership import write_text

__all__ = ["Settled", "content_key", "read_gate", "read_settled", "write_settled"]


@dataclass
class Settled:
    """Results of the preparation, by objective."""

    levels: dict[str, int] = field(default_factory=dict)
    """Chosen step of the context's ladder."""
    answers: dict[str, list[str | None]] = field(default_factory=dict)
    """Answer of each row; None for the row's own."""
    reasoning: dict[str, list[str]] = field(default_factory=dict)
    """Reasoning of the teacher about each row; empty where its context asks for none."""
    gate: list[GateRow] = field(default_factory=list)
    """Measurements of every context that was tried."""
    settled: list[GateRow] = field(default_factory=list)
    """Measurements of the chosen contexts."""


def content_key(
    objectives: Mapping[str, ObjectiveData],
    examples: Mapping[str, Sequence[Example]],
    gate: Gate,
    models: str,
) -> str:
    """Return a digest of every row and setting on which the results depend."""
    content = [
        (name, repr(data), [repr(example) for example in examples[name]])
        for name, data in objectives.items()
    ]
    return text_digest(repr((content, repr(gate), models)))


def read_settled(file: Path, key: str) -> Settled | None:
    """Return the stored results, or None where they are damaged or of other rows or settings."""
    stored = read_checked_json(file)
    try:
        if stored.pop("key") != key:
            return None
        for name in ("gate", "settled"):
            stored[name] = [GateRow(**row) for row in stored[name]]
        return Settled(**stored)
    except (LookupError, TypeError, AttributeError):
        return None


def read_gate(file: Path) -> list[GateRow]:
    """Return the stored measurements of the chosen contexts; none where the file is damaged."""
    try:
        return [GateRow(**row) for row in read_checked_json(file)["settled"]]
    except (LookupError, TypeError):
        return []


def write_settled(file: Path, key: str, found: Settled) -> None:
    """Write the results with their key and a digest."""
    write_text(file, checked_text({"key": key, **asdict(found)}))
