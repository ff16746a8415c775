"""What an evaluation leaves behind: one record per model, in it one per suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

from lit_unlearn.evaluation.probes import Figure, Row, Suite


@dataclass(frozen=True)
class SuiteRecord:
    """The outcome of one suite on one model, what was asked, and what it cost."""

    suite: str
    """Its name in the evaluation: that of `Suite.name`, or the key in a config."""
    settings: Mapping[str, Any]
    seconds: float
    """Wall seconds of this command; stored outcomes are not measured again."""
    cpu_seconds: float
    """Processor seconds of all threads, likewise."""
    rows: Sequence[Row]
    figures: Sequence[Figure]


@dataclass(frozen=True)
class EvaluationRecord:
    """Everything measured on one model."""

    model: str
    """Hub id or path, as the user gave it."""
    fingerprint: str
    """Of weights and tokenizer."""
    suites: Mapping[str, SuiteRecord]
    """By `SuiteRecord.suite`, in the order in which they ran."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the command, beside those of its suites: number format, limit, ..."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version."""
    balance: Sequence[Figure] = ()
    """The balanced score and its parts; empty where parts are missing."""

    def rows_by_group(self) -> dict[str, dict[str, list[Row]]]:
        """Suite -> group -> rows: what other models' suites take as their reference."""
        found: dict[str, dict[str, list[Row]]] = {}
        for name, record in self.suites.items():
            groups = found.setdefault(name, {})
            for row in record.rows:
                groups.setdefault(row.group, []).append(row)
        return found


def settings_of(suite: Suite) -> dict[str, Any]:
    """The class and the public settings of a suite, as plain values."""
    given: Any = suite
    values = asdict(given) if is_dataclass(type(suite)) else vars(given)
    public = {key: value for key, value in values.items() if not key.startswith("_")}
    return {"class": type(suite).__name__, **public}
