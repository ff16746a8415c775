"""Choice among options, by likelihood and by the reply."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal

from lit_unlearn.metrics.functional.scores import is_correct

__all__ = ["Normalisation", "chosen_option", "option_score"]

Normalisation = Literal["sum", "token", "character"]

_LETTER_ALONE = re.compile(r"[\W_]*([A-Z])(?:[.):,*\]]|\s*$|\s*\n)")
_LETTER_NAMED = re.compile(r"\b(?i:answer|option|choice)\b(?:\s+is)?[\s:*(\[]*([A-Z])\b(?!')")


def option_score(log_probs: Sequence[float], text: str, normalisation: Normalisation) -> float:
    """Return the log-likelihood of one option, in nats.

    Args:
        log_probs: Log-probability of each token of the option, without the end-of-turn token.
        text: Text of the option, for its number of characters.
        normalisation: ``sum`` of the tokens (the harness's ``acc``); divided by their number
            (``token``); or by the characters of the text (``character``, close to the harness's
            ``acc_norm``, which counts bytes).
    """
    total = math.fsum(log_probs)
    divisors = {"sum": 1, "token": len(log_probs), "character": len(text)}
    return total / max(1, divisors[normalisation])


def chosen_option(reply: str, options: Sequence[str]) -> int | None:
    """Return the option that a reply names by its letter or text.

    The first of these counts: a capital letter at the beginning, followed by punctuation or nothing
    ("B", "(B)", "B. Jupiter"); a letter after "answer", "option" or "choice" ("The answer is B");
    the one option whose text is in the reply as whole words. An option that is part of another one
    in the reply does not count.

    Args:
        reply: Reply of the model.
        options: Texts of the letters A, B, C, ...

    Returns:
        Index of the option, or None if none is named, or several are.
    """
    letters = ascii_uppercase[: len(options)]
    for match in (_LETTER_ALONE.match(reply), _LETTER_NAMED.search(reply)):
        if match and match[1] in letters:
            return letters.index(match[1])
    named = [text for text in dict.fromkeys(options) if is_correct(reply, [text])]
    whole = [a for a in named if not any(b != a and is_correct(b, [a]) for b in named)]
    return list(options).index(whole[0]) if len(whole) == 1 else None
