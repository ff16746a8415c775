"""Spans of an answer: the characters that carry what was to be forgotten, and their tokens."""

import re
from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from lit_unlearn.types import Example

__all__ = ["span_tokens", "spans_of"]

_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*")


def spans_of(example: Example) -> list[tuple[int, int]]:
    """Return where the knowledge of a row stands in its answer: begin and end in characters.

    That is the first accepted answer that the gold answer contains and the question does not; for a
    row without one, each word that the question does not contain; where none is left, the whole
    answer. Case is ignored.
    """
    question = example.question.casefold()
    for text in example.accepted:
        found = re.search(re.escape(text), example.answer, re.IGNORECASE) if text else None
        if found and text.casefold() not in question:
            return [found.span()]
    asked = set(_WORD.findall(question))
    words = [w.span() for w in _WORD.finditer(example.answer) if w[0].casefold() not in asked]
    return words or [(0, len(example.answer))]


def span_tokens(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    answer: str,
    spans: Sequence[tuple[int, int]],
) -> list[int]:
    """Return the indices of the tokens that overlap spans of an answer, in ascending order.

    Characters are found by decoding the tokens, so that a span means the same for each tokenizer.
    `ids` are those of the answer with its end of turn, which is in no span. All others are returned
    if the answer is not in their text, or no token overlaps.
    """
    read = [_text(tokenizer, ids[:count]) for count in range(len(ids))]
    begin = _text(tokenizer, ids).find(answer)
    found = []
    for index, (before, after) in enumerate(pairwise(read)):
        # a character of several tokens is a replacement character before the last of them
        start, end = len(before.rstrip("\ufffd")) - begin, len(after) - begin
        if any(start < last and end > first for first, last in spans):
            found.append(index)
    return found if found and begin >= 0 else list(range(len(ids) - 1)) or [0]


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode(list(ids), **options))
