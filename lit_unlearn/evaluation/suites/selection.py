"""Selection: the rows of a group that a suite asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lit_unlearn.errors import InputError, check_number

__all__ = ["Selection"]

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Selection:
    """The rows of a group that a suite asks; by default all of them.

    Args:
        limit: Maximum number of rows; null for all.
        offset: Number of first rows to skip.
        every: Take every n-th row after `offset`, to spread the rows over a sorted file.
    """

    limit: int | None = None
    offset: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        check_number("offset", self.offset, 0)
        check_number("every", self.every, 1)
        check_number("limit", self.limit, 1)

    def of(self, rows: Sequence[_Row], group: str) -> list[_Row]:
        """Return the selected rows; refuse an empty selection, naming the group."""
        chosen = list(rows[self.offset :: self.every][: self.limit])
        if not chosen:
            raise InputError(
                f"Parameter `offset` of group {group!r} should be below its {len(rows)} rows. "
                f"Found {self.offset}; lower it."
            )
        return chosen
