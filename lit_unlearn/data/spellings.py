"""Spellings: most words have two tokens, one without and one with a space in front."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["both_spellings", "same_words"]

_SPACES = ("\u0120", "\u2581")  # a space in front, in byte-level BPE and in SentencePiece


def both_spellings(tokenizer: Any) -> Tensor:
    """Return ``[2, V]``, int64: each token without, and with, a space in front.

    A special token, or one with only one spelling, is itself in both rows.
    """
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_ids)
    known = {text: index for index, text in enumerate(tokens) if index not in special}
    found = torch.arange(len(tokens)).repeat(2, 1)
    for text, index in known.items():
        bare = text[1:]
        if text.startswith(_SPACES) and not bare.startswith(_SPACES) and bare in known:
            found[0, index], found[1, known[bare]] = known[bare], index
    return found


def same_words(tokenizer: Any, left: Sequence[int], right: Sequence[int]) -> bool:
    """Return whether two texts have the same tokens, except for a space before the first token."""
    if len(left) != len(right) or left[1:] != right[1:]:
        return False
    first = tokenizer.convert_ids_to_tokens([*left[:1], *right[:1]])
    return len({text[1:] if text.startswith(_SPACES) else text for text in first}) <= 1
