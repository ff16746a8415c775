"""Elements by a key, in order of appearance."""

from __future__ import annotations

from lit_unlearn.utils.grouping import grouped


def test_order_of_appearance() -> None:
    found = grouped(["bat", "ant", "bee", "ape"], lambda word: word[0])
    assert list(found.items()) == [("b", ["bat", "bee"]), ("a", ["ant", "ape"])]


def test_nothing() -> None:
    assert grouped([], str) == {}
