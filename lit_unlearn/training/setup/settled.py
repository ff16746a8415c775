"""What a preparation has settled, on disk: used again by the same rows and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.training.setup.teacher_gate import Gate, GateRow
from lit_unlearn.types import Example
from lit_unlearn.utils.files import write_text


@dataclass
class Outcome:
    """What costs time, by objective."""

    levels: dict[str, int] = field(default_factory=dict)
    """The chosen step of the context's ladder."""
    answers: dict[str, list[str | None]] = field(default_factory=dict)
    gate: list[GateRow] = field(default_factory=list)
    settled: list[GateRow] = field(default_factory=list)


def content_key(
    objectives: Mapping[str, ObjectiveData],
    examples: Mapping[str, Sequence[Example]],
    gate: Gate,
    models: str,
) -> str:
    """Changes whenever a row or a setting does that the stored outcome depends on."""
    content = [
        (name, repr(data), [repr(example) for example in examples[name]])
        for name, data in objectives.items()
    ]
    return hashlib.sha256(repr((content, repr(gate), models)).encode()).hexdigest()


def read_outcome(file: Path, key: str) -> Outcome | None:
    """The stored outcome, if there is one of these rows and settings, as it was written."""
    try:
        stored: dict[str, Any] = json.loads(file.read_bytes())
        if stored.pop("key") != key or stored.pop("sha256") != _digest(stored):
            return None
        for name in ("gate", "settled"):
            stored[name] = [GateRow(**row) for row in stored[name]]
        return Outcome(**stored)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def write_outcome(file: Path, key: str, outcome: Outcome) -> None:
    """Write it, with a digest."""
    content = asdict(outcome)
    marks = {"key": key, "sha256": _digest(content)}
    write_text(file, json.dumps(marks | content, ensure_ascii=False, indent=1))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
