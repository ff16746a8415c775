"""ROUGE-L recall over distinct words, as the Python package ``rouge`` 1.0 computes it for RWKU.

It differs from the usual ROUGE-L (`scores.rouge_l_recall`): words are split at white space, keep
their capitals and punctuation, are never stemmed, and count once however often they occur; full
stops end sentences, and the matches of all sentences are joined.
"""

from __future__ import annotations

from collections.abc import Sequence


def distinct_rouge_l_recall(reference: str, generated: str) -> float:
    """Distinct words of the reference in common subsequences with the reply / distinct words.

    Jin et al., "RWKU" (arXiv 2406.10890), section 3.4, as scored by its code (``rouge-l``, ``r``).

    Args:
        reference: The gold answer.
        generated: The model's reply.

    Returns:
        A share between 0 and 1; 0 where either text holds nothing but full stops.
    """
    references, replies = _sentences(reference), _sentences(generated)
    if not references or not replies:
        return 0.0
    matched: set[str] = set()
    for sentence in references:
        for reply in replies:
            matched |= set(_common_subsequence(sentence, reply))
    return len(matched) / len({word for sentence in references for word in sentence})


def _sentences(text: str) -> list[list[str]]:
    """Words of each part between full stops; one empty word for a part of white space alone."""
    return [part.split() or [""] for part in text.split(".") if part]


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """A longest common subsequence; of several the one that ends furthest on in ``first``."""
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, word in enumerate(first, start=1):
        for j, other in enumerate(second, start=1):
            longest = max(lengths[i - 1][j], lengths[i][j - 1])
            lengths[i][j] = lengths[i - 1][j - 1] + 1 if word == other else longest
    found: list[str] = []
    i, j = len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            found.append(first[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found[::-1]
