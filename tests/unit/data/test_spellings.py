"""Tests of spellings: a word with and without the space in front."""

from __future__ import annotations

import torch

from lit_unlearn.data.spellings import other_spellings


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


def test_words_with_two_spellings_are_exchanged() -> None:
    """Spaces, words of one spelling and special tokens stand for themselves."""
    found = other_spellings(Tokenizer())
    assert found.tolist() == [1, 0, 2, 3, 4, 5, 6, 7, 8]
    assert torch.equal(found[found], torch.arange(9))
