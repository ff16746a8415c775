"""Tests of spellings: a word with and without the space in front."""

from __future__ import annotations

from lit_unlearn.data.spellings import both_spellings


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
