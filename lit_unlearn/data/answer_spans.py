"""Spans of an answer that hold the knowledge to forget: their characters and tokens."""

import re
from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from lit_unlearn.types import Example

__all__ = ["span_tokens", "spans_of"]

_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*")


def spans_of(example: Example) -> list[tuple[int, int]]:
    """Return the spans of a row's answer that hold its knowledge: begin and end in characters.

    The span is the first accepted answer that the gold answer contains and the question does not.
    Without one, each word that the question does not contain is a span; without any such word, the
    whole answer. Case is ignored.
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

    Characters are located by decoding the tokens, so that a span is the same for each tokenizer.
    `ids` are the tokens of the answer with its end of turn, which is in no span. All tokens but
    the end of turn are returned if the decoded text does not contain the answer or no token
    overlaps.
    """
    read = [_text(tokenizer, ids[:count]) for count in range(len(ids))]
    begin = _text(tokenizer, ids).find(answer)
    found = []
    for index, (before, after) in enumerate(pairwise(read)):
        # before its last token, a character of several tokens decodes to a replacement character
        start, end = len(before.rstrip("\ufffd")) - begin, len(after) - begin
        if any(start < last and end > first for first, last in spans):
            found.append(index)
    return found if found and begin >= 0 else list(range(len(ids) - 1)) or [0]


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode(list(ids), **options))
