"""Selection: the rows of a group that are asked, where all of them would take too long."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lit_unlearn.errors import InputError, check_number

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
        check_number("offset", self.offset, 0)
        check_number("every", self.every, 1)
        check_number("limit", self.limit, 1)

    def of(self, rows: Sequence[_Row], group: str) -> list[_Row]:
        """Return the chosen rows; refuse a group, named in the message, of which no row is left."""
        chosen = list(rows[self.offset :: self.every][: self.limit])
        if not chosen:
            raise InputError(
                f"Parameter `offset` of group {group!r} should be below its {len(rows)} rows. "
                f"Found {self.offset}; lower it."
            )
        return chosen
