"""Records of everything that was measured on one model."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

import torch
import transformers

from lit_unlearn import __version__
from lit_unlearn.evaluation.probes import BlockMap, Figure, Row, Suite
from lit_unlearn.utils.grouping import grouped

__all__ = ["EvaluationRecord", "SuiteRecord", "settings_of", "versions"]


@dataclass(frozen=True)
class SuiteRecord:
    """Rows and figures of one suite on one model, with its settings and its cost."""

    suite: str
    """Name in the evaluation: `Suite.name`, or the key in a config."""
    settings: Mapping[str, Any]
    seconds: float
    """Wall seconds of this command, without those of stored outcomes."""
    cpu_seconds: float
    """CPU seconds of all threads, likewise without stored outcomes."""
    rows: Sequence[Row]
    figures: Sequence[Figure]
    maps: Mapping[str, BlockMap] = field(default_factory=dict)
    """Title of the picture -> map."""


@dataclass(frozen=True)
class EvaluationRecord:
    """Everything measured on one model."""

    model: str
    """Hub id or path, as the user gave it."""
    fingerprint: str
    """Digest of weights and tokenizer."""
    suites: Mapping[str, SuiteRecord]
    """Name -> record, in the order in which the suites ran."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings besides those of the suites: dtype, limit, ..."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version."""
    balance: Sequence[Figure] = ()
    """The balanced score and its parts; empty if a part is missing."""

    def rows_by_group(self) -> dict[str, dict[str, list[Row]]]:
        """Return suite -> group -> rows: the reference for other models' suites."""
        return {
            name: grouped(record.rows, lambda row: row.group)
            for name, record in self.suites.items()
        }


def settings_of(suite: Suite) -> dict[str, Any]:
    """Return the class and the public settings of a suite as plain values."""
    given: Any = suite
    values = asdict(given) if is_dataclass(type(suite)) else vars(given)
    public = {key: value for key, value in values.items() if not key.startswith("_")}
    return {"class": type(suite).__name__, **public}


def versions() -> dict[str, str]:
    """Return the versions of the packages that the figures depend on."""
    return {
        "lit_unlearn": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
