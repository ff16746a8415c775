"""Selection: the rows of a group that are asked, where all of them would take too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lit_unlearn.errors import InputError

__all__ = ["Selection"]

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Selection:
    """The rows of a group that are asked: all of them unless something is set.

    Args:
        limit: At most so many rows; null for all.
        offset: Leave out this many rows first.
        every: Take every n-th row after `offset`: a spread over a file that is sorted, by author
            for example.
    """

    limit: int | None = None
    offset: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        if self.offset < 0 or self.every < 1 or (self.limit is not None and self.limit < 1):
            raise InputError(
                "Parameters of a selection of rows: `offset` should be at least 0, `every` at "
                f"least 1, and `limit` at least 1 or null. Found {self.offset}, {self.every} and "
                f"{self.limit}."
            )

    def of(self, rows: Sequence[_Row], group: str) -> list[_Row]:
        """Return the chosen rows; refuse a group, named in the message, of which no row is left."""
        chosen = list(rows[self.offset :: self.every][: self.limit])
        if not chosen:
            raise InputError(
                f"Parameter `offset` of group {group!r} should be below its {len(rows)} rows. "
                f"Found {self.offset}; lower it."
            )
        return chosen
