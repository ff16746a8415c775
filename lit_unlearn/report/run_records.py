"""What was measured: one record per answer, averages per objective, gradient diagnostics."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.repetition import repetition


@dataclass(frozen=True)
class AnswerRecord:
    """One question put to the model, and what it replied."""

    objective: str
    example_id: str
    prefill: str
    """The beginning of the answer put into the assistant's mouth; empty for none."""
    question: str
    gold: str
    """The gold answer; empty where the row has none."""
    generated: str
    """The reply; the prefill is not part of it."""
    rouge_l: float
    """ROUGE-L recall against the gold answer, 0 to 1."""
    correct: bool | None
    """None where the row has no accepted answers."""
    refused: bool
    answer_nll: float
    """Of the gold answer, teacher-forced, nats per token; NaN where the row has none."""


@dataclass(frozen=True)
class ObjectiveSummary:
    """Averages over the rows of one objective, those with prefills apart."""

    objective: str
    prefilled: bool
    rows: int
    correct_rate: float | None
    """Over the rows that have accepted answers; None where no row has."""
    rouge_l: float
    """Mean over the rows with a gold answer, 0 to 1; NaN where no row has one."""
    refusal_rate: float
    repetition: float
    """Share of a reply's 4-grams that it has written before, mean over rows, 0 to 1."""
    answer_nll: float
    """Mean over the rows with a gold answer, nats per token; NaN where no row has one."""


@dataclass(frozen=True)
class RunFacts:
    """What the run was, for the head of the report and for ``summary.json``."""

    model: str
    seed: int
    steps: int
    seconds: float
    """Wall seconds of the whole command."""
    device: str
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where things are: a word such as ``export`` -> a path."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version."""


def summarise(records: Iterable[AnswerRecord]) -> list[ObjectiveSummary]:
    """Averages per objective, in the order of first appearance; prefilled rows after the others.

    A NaN likelihood of a row that has a gold answer makes the mean NaN: it is not hidden.
    """
    groups: dict[str, tuple[list[AnswerRecord], list[AnswerRecord]]] = {}
    for record in records:
        groups.setdefault(record.objective, ([], []))[bool(record.prefill)].append(record)
    return [
        _summary(objective, bool(prefilled), rows)
        for objective, parts in groups.items()
        for prefilled, rows in enumerate(parts)
        if rows
    ]


def _summary(objective: str, prefilled: bool, rows: list[AnswerRecord]) -> ObjectiveSummary:
    scored = [row.correct for row in rows if row.correct is not None]
    answered = [row for row in rows if row.gold]
    return ObjectiveSummary(
        objective=objective,
        prefilled=prefilled,
        rows=len(rows),
        correct_rate=sum(scored) / len(scored) if scored else None,
        rouge_l=_mean([row.rouge_l for row in answered]),
        refusal_rate=_mean([float(row.refused) for row in rows]),
        repetition=_mean([repetition(row.generated) for row in rows]),
        answer_nll=_mean([row.answer_nll for row in answered]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Change:
    """The averages of one objective, or of its prefilled rows, before and after the run."""

    objective: str
    prefilled: bool
    before: ObjectiveSummary | None
    after: ObjectiveSummary | None

    @property
    def label(self) -> str:
        """How it is named in tables and pictures."""
        return f"{self.objective} (prefilled)" if self.prefilled else self.objective

    @property
    def rows(self) -> int:
        """Number of rows, after the run where it was measured then."""
        measured = self.after or self.before
        return measured.rows if measured else 0


def changes(before: Sequence[ObjectiveSummary], after: Sequence[ObjectiveSummary]) -> list[Change]:
    """Before and after side by side, in order of appearance, prefilled rows after the others."""
    first = {(s.objective, s.prefilled): s for s in before}
    last = {(s.objective, s.prefilled): s for s in after}
    objectives = list(dict.fromkeys(s.objective for s in (*before, *after)))
    return [
        Change(name, prefilled, first.get((name, prefilled)), last.get((name, prefilled)))
        for name in objectives
        for prefilled in (False, True)
        if (name, prefilled) in first or (name, prefilled) in last
    ]


# -------------------------------------------------------------------------- gradient diagnostics

_GRADIENT_KEYS = frozenset({"step", "objectives", "norms", "cosines", "weights", "losses"}) | {
    "conflict_rate",
    "update_cosines",
    "groups",
    "group_cosines",
}


def read_gradients(path: Path | str) -> list[dict[str, Any]]:
    """The diagnosed steps of a run, in file order.

    Args:
        path: ``gradients.jsonl``: one JSON object per line with ``step``, ``objectives`` (``M``
            names), ``norms`` (``M``), ``cosines`` (``M x M``), ``weights`` (``M``),
            ``conflict_rate`` (0 to 1), ``update_cosines`` (``M``), ``losses`` (``M``), ``groups``
            (``G`` names) and ``group_cosines`` (``G x M x M``).

    Returns:
        The objects; a ``null`` within a list of numbers is NaN.

    Raises:
        InputError: The file is missing, or a line is not such an object (names file and line).
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(
            f"{path}: expected the gradient table of a run, found none ({error.strerror}); the "
            "gradient monitor writes it at diagnosed steps"
        ) from error
    return [_gradient(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]


def _gradient(path: Path | str, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: expected a JSON object, found {line[:60]!r} ({error.msg}); "
            "an interrupted run may have cut the last line: remove it"
        ) from error
    if not isinstance(row, dict) or not row.keys() >= _GRADIENT_KEYS:
        missing = sorted(_GRADIENT_KEYS - row.keys()) if isinstance(row, dict) else "all keys"
        raise InputError(
            f"{path}, line {number}: expected an object of the gradient monitor, found one "
            f"without {missing}; give the gradients.jsonl of a run"
        )
    return {key: _null_to_nan(value) for key, value in row.items()}


def _null_to_nan(value: object) -> object:
    if isinstance(value, list):
        return [_null_to_nan(item) for item in value]
    return math.nan if value is None else value
