"""Evenly spread elements."""

from __future__ import annotations

import pytest

from lit_unlearn.utils.spread import evenly_spread


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [0]), (2, [0, 3]), (3, [0, 2, 4]), (7, list(range(7))), (9, list(range(7)))],
)
def test_elements_at_equal_distances(count: int, expected: list[int]) -> None:
    """Of seven: index * 7 // count."""
    assert evenly_spread(range(7), count) == expected


def test_of_nothing() -> None:
    assert evenly_spread("", 3) == []
