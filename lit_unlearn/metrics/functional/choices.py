"""Which option does a model choose? By likelihood, and by what it writes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal

from lit_unlearn.metrics.functional.scores import is_correct

Normalisation = Literal["sum", "token", "character"]

_LETTER_ALONE = re.compile(r"[\W_]*([A-Z])(?:[.):,*\]]|\s*$|\s*\n)")
_LETTER_NAMED = re.compile(r"\b(?i:answer|option|choice)\b(?:\s+is)?[\s:*(\[]*([A-Z])\b(?!')")


def option_score(log_probs: Sequence[float], text: str, normalisation: Normalisation) -> float:
    """Log-likelihood of one option, in nats.

    Args:
        log_probs: Of the option's tokens, without the end-of-turn token.
        text: The option, for its number of characters.
        normalisation: ``sum`` of the tokens (the harness's ``acc``); divided by their number
            (``token``); or by the characters of the text (``character``, close to the harness's
            ``acc_norm``, which counts bytes).
    """
    total = math.fsum(log_probs)
    divisors = {"sum": 1, "token": len(log_probs), "character": len(text)}
    return total / max(1, divisors[normalisation])


def chosen_option(reply: str, options: Sequence[str]) -> int | None:
    """The option that a reply names, by its letter or by its text.

    In this order: a capital letter at the beginning, followed by punctuation or nothing ("B",
    "(B)", "B. Jupiter"); a letter after "answer", "option" or "choice" ("The answer is B"); the one
    option whose text stands in the reply as whole words. An option that is part of another one
    that also stands there does not count.

    Args:
        reply: What the model wrote.
        options: The texts behind the letters A, B, C, ...

    Returns:
        Index of the option; None where none is named, or several.
    """
    letters = ascii_uppercase[: len(options)]
    for match in (_LETTER_ALONE.match(reply), _LETTER_NAMED.search(reply)):
        if match and match[1] in letters:
            return letters.index(match[1])
    named = [text for text in dict.fromkeys(options) if is_correct(reply, [text])]
    named = [
        text
        for text in named
        if not any(other != text and is_correct(other, [text]) for other in named)
    ]
    return list(options).index(named[0]) if len(named) == 1 else None
