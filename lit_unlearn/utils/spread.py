"""Which elements stand for all: the same ones every time, without chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["evenly_spread"]

_Item = TypeVar("_Item")


def evenly_spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Return ``count`` elements at equal distances, the first among them; all if there are fewer.

    Args:
        items: What is chosen from.
        count: At least 0.
    """
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
