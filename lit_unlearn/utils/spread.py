"""Deterministic choice of elements at equal distances in a sequence."""

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["evenly_spread"]

_Item = TypeVar("_Item")


def evenly_spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Return ``count`` elements at equal distances, the first one included; all if fewer."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
