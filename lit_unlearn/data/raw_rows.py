"""Raw rows, and treatment of the rows that cannot be used."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lit_unlearn.errors import InputError, did_you_mean

__all__ = ["BadRows", "OnBadRow", "RawRow", "bad_row", "suggestion"]

OnBadRow = Literal["error", "skip"]

_REASONS_SHOWN = 3
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawRow:
    """One row as its file or hub data set gives it."""

    row_id: str
    """Value of the row's column ``id``, or its number in the file, counted from 0."""
    values: dict[str, Any]
    """Values by column, with the columns renamed to those that the converters expect."""
    location: str
    """Location for error messages: ``file.jsonl:12`` or ``owner/name[config/split] row 12``."""
    answerless: bool = False
    """Whether the source has only questions, according to its ``columns``."""


@dataclass
class BadRows:
    """Treatment of unusable rows: an error at the first one, or one warning with their number.

    Args:
        policy: ``error`` raises at the first one; ``skip`` counts them, and `report` logs them.
        source: Name of the source, for the messages.
    """

    policy: OnBadRow
    source: str
    count: int = 0
    """Number of rows left out so far."""
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.policy not in get_args(OnBadRow):
            raise InputError(
                f"Parameter `on_bad_row` should be error or skip. Found {self.policy!r}."
            )

    def add(self, error: InputError) -> None:
        """Raise ``error`` if the policy is ``error``, else count it."""
        if self.policy == "error":
            raise error
        self.count += 1
        if len(self.reasons) < _REASONS_SHOWN:
            self.reasons.append(str(error))

    def report(self) -> None:
        """Log one warning with the number of skipped rows and the first three reasons."""
        if self.count:
            _logger.warning(
                "Skipped %d bad row%s of %s; the first reasons: %s",
                *(self.count, "" if self.count == 1 else "s", self.source),
                " | ".join(self.reasons),
            )


def bad_row(location: str, reason: str) -> InputError:
    """Return the error about a row: its location, and the reason why it cannot be used."""
    return InputError(f"Bad row at {location}: {reason}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean x?)`` for the known name closest to ``word``; empty for none."""
    hint = did_you_mean(word, known)
    return f" ({hint})" if hint else ""
