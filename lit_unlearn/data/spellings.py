"""Spellings: most words are two tokens, one with and one without a space in front."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["other_spellings"]

_SPACES = ("\u0120", "\u2581")  # a space in front, in byte-level BPE and in SentencePiece


def other_spellings(tokenizer: Any) -> Tensor:
    """Return ``[V]``, int64: for each token the one with or without a space in front.

    A token that has no such twin, or is a special token, stands for itself; so the result is its
    own inverse.
    """
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_ids)
    known = {text: index for index, text in enumerate(tokens) if index not in special}
    found = torch.arange(len(tokens))
    for text, index in known.items():
        bare = text[1:]
        if text.startswith(_SPACES) and not bare.startswith(_SPACES) and bare in known:
            found[index], found[known[bare]] = known[bare], index
    return found
