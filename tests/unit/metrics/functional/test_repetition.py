"""How far replies repeat themselves."""

from __future__ import annotations

import pytest

from lit_unlearn.metrics.functional.repetition import repetition


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        # a b c d e: two 4-grams, both new
        ("a b c d e", 4, 0.0),
        # a a a a a a: three 4-grams, one distinct
        ("a A a a a a", 4, 2 / 3),
        # a b a b a b a: abab, baba, abab, baba: four, two distinct
        ("a b a b a b a", 4, 0.5),
        # pairs: ab, bc, ca, ab: four, three distinct
        ("a b c a b", 2, 0.25),
        # punctuation counts: a and eight commas are six 4-grams, "a,,," and ",,,,"
        ("a,,,,,,,,", 4, 1 - 2 / 6),
        ("", 4, 0.0),
        ("one two three", 4, 0.0),
    ],
)
def test_worked_values(text: str, size: int, expected: float) -> None:
    assert repetition(text, size) == pytest.approx(expected)


def test_a_longer_loop_is_more_repetitive() -> None:
    """The limit is 1: of n words alike all n-grams but the first are old."""
    shares = [repetition("strugg " * count) for count in (4, 8, 40)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.97
