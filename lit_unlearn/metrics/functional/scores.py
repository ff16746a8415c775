"""Scores of one reply: ROUGE-L, repetition, correct or not. All are shares between 0 and 1."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from lit_unlearn.errors import InputError
from lit_unlearn.utils.text import UNSPACED, fold, is_latin, is_unspaced, script_words

__all__ = ["distinct_rouge_l_recall", "is_correct", "repetition", "rouge_l_f1", "rouge_l_recall"]

# ------------------------------------------------------------------------------------ ROUGE-L


def rouge_l_recall(reference: str, generated: str, *, stemmer: bool = True) -> float:
    """Return the longest common subsequence of words / words of the reference.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", eq. 2. TOFU
    (arXiv 2401.06121) takes it to ask whether the gold answer is in the reply, however long.

    Args:
        reference: Gold answer.
        generated: Reply of the model.
        stemmer: Compare Porter stems of words longer than three letters, as TOFU does.

    Returns:
        0 if the reply has no word; NaN if the reference has none. Words are runs of ``[a-z0-9]``
        after lower-casing. If most letters of the reference are of another script than Latin, they
        are words of every script; a character of a script without spaces is a word
        (`lit_unlearn.utils.text`).
    """
    return _rouge(reference, generated, stemmer, "recall")


def rouge_l_f1(reference: str, generated: str, *, stemmer: bool = True) -> float:
    """Return the harmonic mean of `rouge_l_recall` and of the precision.

    The precision is the longest common subsequence / words of the reply (Lin 2004, eqs. 2 to 4 with
    beta = 1). MUSE (arXiv 2407.06460) reports this one, without stemmer. Arguments and words are
    those of `rouge_l_recall`.
    """
    return _rouge(reference, generated, stemmer, "fmeasure")


def _rouge(reference: str, generated: str, stemmer: bool, kind: str) -> float:
    latin = is_latin(reference)
    if not _words_of(stemmer, latin).tokenize(reference):
        return math.nan
    score = _scorer(stemmer, latin).score(reference, generated)["rougeL"]
    return float(getattr(score, kind))


class _AllScripts(Tokenizer):  # type: ignore[misc]  # the package has no types
    """Words of every script, in lower case."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words."""
        return script_words(text.lower())


@lru_cache(maxsize=4)
def _scorer(stemmer: bool, latin: bool) -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=_words_of(stemmer, latin))


@lru_cache(maxsize=4)
def _words_of(stemmer: bool, latin: bool) -> Tokenizer:
    return DefaultTokenizer(stemmer) if latin else _AllScripts()


def distinct_rouge_l_recall(reference: str, generated: str) -> float:
    """Return the distinct words of the reference in common subsequences / its distinct words.

    Jin et al., "RWKU" (arXiv 2406.10890), section 3.4, as its code computes it with the package
    ``rouge`` 1.0 (``rouge-l``, ``r``): words are split at white space, keep capitals and
    punctuation, are never stemmed, and count once however often they occur. Full stops end
    sentences, and the matches of all pairs of sentences are joined.

    Args:
        reference: Gold answer.
        generated: Reply of the model.

    Returns:
        0 if the reply has nothing but full stops, NaN if the reference has not. In scripts without
        spaces each character is a word.
    """
    references, replies = _sentences(reference), _sentences(generated)
    if not references:
        return math.nan
    if not replies:
        return 0.0
    matched: set[str] = set()
    for sentence in references:
        for reply in replies:
            matched |= set(_common_subsequence(sentence, reply))
    return len(matched) / len({word for sentence in references for word in sentence})


def _sentences(text: str) -> list[list[str]]:
    """Return the words between full stops; one empty word for a part of white space alone."""
    cut = script_words if is_unspaced(text) else str.split
    return [cut(part) or [""] for part in text.split(".") if part]


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return a longest common subsequence: of several the one that ends last in ``first``."""
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


# --------------------------------------------------------------------------------- repetition

_PIECE = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def repetition(text: str, size: int = 4) -> float:
    """Return ``1 - distinct n-grams / n-grams`` of a reply.

    seq-rep-n of Welleck et al. 2019 (arXiv 1908.04319), over words and punctuation marks in
    place of a model's tokens, so that models can be compared. A character of a script without
    spaces is a word in every text, so that a loop of such characters counts in an English reply
    too. It finds loops ("Ab Ab Ab ..."), not nonsense that never repeats.

    Args:
        text: Reply of the model.
        size: n, at least 1.

    Returns:
        0 if the text has no n-gram.
    """
    pieces = _PIECE.findall(text.lower())
    grams = [tuple(pieces[i : i + size]) for i in range(len(pieces) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


# -------------------------------------------------------------------------- correct or not

_NUMBER_WORDS = """zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"""
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_MAGNITUDES = frozenset(f"{_TENS} hundred thousand million billion".split())
_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(rf"\d+(?:\.\d+)+|[{UNSPACED}]|[^\W_{UNSPACED}]+")


def is_correct(generated: str, accepted: Sequence[str]) -> bool:
    """Return whether one of the accepted answers is in the reply as whole words.

    Both are normalised: case, accents, punctuation, possessive ``'s`` and articles do not count
    (`fold`), and number words from zero to twenty equal their digits unless they are part of a
    larger number ("twenty-one", "two hundred"). A character of a script without spaces is a
    word. A negated answer ("it is not Paris") is found too.

    Args:
        generated: Reply of the model.
        accepted: Spellings that count, at least one.

    Raises:
        InputError: ``accepted`` is empty; such a row has no right or wrong answer.
    """
    if not accepted:
        raise InputError(
            "Parameter `accepted` should hold at least one accepted answer. Found none; leave rows "
            "without accepted answers out of the correct-answer rate."
        )
    return any(_contains(answer, generated) for answer in accepted)


def _contains(answer: str, reply: str) -> bool:
    """Return whether a reply contains an answer as whole words.

    Articles count if the answer is nothing else ("A"). An answer without any word ("+") is searched
    letter by letter.
    """
    for articles in (False, True):
        words = _words(answer, articles=articles)
        if words:
            return f" {' '.join(words)} " in f" {' '.join(_words(reply, articles=articles))} "
    return bool(answer.strip()) and answer.strip() in reply


def _words(text: str, *, articles: bool) -> list[str]:
    """Return the normalised words of a text, with or without its articles."""
    plain = re.sub(r"(?<=\w)'s\b", "", fold(text)).replace("'", "")
    words = _WORD.findall(plain)
    if not articles:
        words = [word for word in words if word not in _ARTICLES]
    return [_as_digits(words, index) for index in range(len(words))]


def _as_digits(words: list[str], index: int) -> str:
    """Return a word, in digits if it is a number word that is not part of a larger number."""
    neighbours = (*words[max(0, index - 1) : index], *words[index + 1 : index + 2])
    if any(word in _MAGNITUDES for word in neighbours):
        return words[index]
    if words[index] == "twenty" and any(word in _DIGITS for word in words[index + 1 : index + 2]):
        return words[index]
    return _DIGITS.get(words[index], words[index])
