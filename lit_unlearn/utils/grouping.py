"""Group elements by a key."""

from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["grouped"]

_Item = TypeVar("_Item")


def grouped(items: Iterable[_Item], key: Callable[[_Item], str]) -> dict[str, list[_Item]]:
    """Return the elements by their keys, keys and elements in order of appearance."""
    found: dict[str, list[_Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
