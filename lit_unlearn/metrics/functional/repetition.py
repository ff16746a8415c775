"""How far a reply repeats itself, as models do whose answers were driven out and not replaced."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\w+|[^\w\s]")


def repetition(text: str, size: int = 4) -> float:
    """Share of a text's n-grams that stood in it before.

    seq-rep-n of Welleck et al. 2019, arXiv 1908.04319: ``1 - distinct n-grams / n-grams``; over
    words and punctuation marks instead of a model's tokens, so that models can be compared. It sees
    loops ("Ab Ab Ab ..."), not nonsense that never repeats.

    Args:
        text: A reply.
        size: n, at least 1.

    Returns:
        0 to 1; 0 where the text has too few words for two n-grams, an empty one among them.
    """
    pieces = _PIECE.findall(text.lower())
    grams = [tuple(pieces[i : i + size]) for i in range(len(pieces) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
