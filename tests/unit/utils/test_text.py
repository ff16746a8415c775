"""Normal forms, against spellings that a reader takes for the same."""

from __future__ import annotations

import pytest

from lit_unlearn.utils.text import casefold, fold


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Don\u2019t", "don't"),
        ("don\u00b4t", "don`t"),
        ("STRASSE", "stra\u00dfe"),
        ("\ufb01ne", "fine"),
        ("e\u0301", "\u00c9"),
        ("\uac01", "\u1100\u1161\u11a8"),
    ],
)
def test_case_and_compatibility(one: str, other: str) -> None:
    assert casefold(one) == casefold(other)
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Ren\u00e9e", "renee"),
        ("12,000,000 or 1,2", "12000000 or 1,2"),
        ("\u304c", "\u304c"),  # the mark of a Japanese letter is no accent
        ("\u00c5ngstr\u00f6m", "angstrom"),
    ],
)
def test_accents_and_numbers(text: str, folded: str) -> None:
    assert fold(text) == folded
    assert casefold("Ren\u00e9e") != fold("Ren\u00e9e")
