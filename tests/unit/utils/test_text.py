"""Normal forms, against spellings that a reader takes for the same."""

# ruff: noqa: RUF001 - full-width punctuation of other scripts

from __future__ import annotations

import pytest

from lit_unlearn.utils.text import (
    casefold,
    count_words,
    first_words,
    fold,
    is_latin,
    is_unspaced,
    script_words,
)


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


@pytest.mark.parametrize(
    ("text", "words", "first"),
    [
        ("Paris is  the capital.", 4, "Paris is"),
        ("巴黎是法国的首都。", 8, "巴黎"),
        ("กรุงเทพ", 7, "กรุ"),  # a mark stays with its letter
        ("ភ្នំពេញ", 7, "ភ្"),
        ("서울은 수도이다", 2, "서울은 수도이다"),
        ("Paris (巴黎) is the capital", 5, "Paris (巴黎)"),
        ("🥖", 1, "🥖"),
        ("", 0, ""),
    ],
)
def test_words_of_every_script(text: str, words: int, first: str) -> None:
    assert (count_words(text), first_words(text, 2)) == (words, first)


def test_which_words_a_text_has() -> None:
    assert script_words("東京 is 2 places") == ["東", "京", "is", "2", "places"]
    assert [is_latin(t) for t in ("Ünïcödé", "", "αβγ", "東京 in Tokio", "Москва")] == [
        True, True, False, True, False]  # fmt: skip
    assert not is_unspaced("。！")
