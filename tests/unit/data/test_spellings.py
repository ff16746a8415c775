"""Tests of spellings: a word with and without the space in front."""

from __future__ import annotations

import pytest

from lit_unlearn.data.spellings import both_spellings, same_words


class Tokenizer:
    """Byte-level tokens, as BPE writes them; the last one is special."""

    tokens = (
        "I",
        "\u0120I",
        "\u0120",
        "\u0120\u0120",
        "The",
        "'m",
        "\u0120Paris",
        "\u0120end",
        "end",
    )
    all_special_ids = (8,)

    def __len__(self) -> int:
        return len(self.tokens)

    def convert_ids_to_tokens(self, ids: range) -> list[str]:
        return [self.tokens[i] for i in ids]


def test_words_with_two_spellings() -> None:
    """Spaces, words of one spelling and special tokens stand for themselves."""
    without, with_space = both_spellings(Tokenizer())
    assert without.tolist() == [0, 0, 2, 3, 4, 5, 6, 7, 8]
    assert with_space.tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("other", "same"),
    [([0, 6], True), ([1, 6], True), ([4, 6], False), ([1, 5], False), ([1], False)],
)
def test_same_words(other: list[int], same: bool) -> None:
    """Only the first token may differ, and only by a space."""
    assert same_words(Tokenizer(), [0, 6], other) is same
    assert same_words(Tokenizer(), [], [])
