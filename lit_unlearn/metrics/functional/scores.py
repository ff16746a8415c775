"""Scores of one reply, and of one answer's tokens: pure functions, nothing remembered.

All similarities and rates are shares between 0 and 1; likelihoods are in nats per token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.utils.text import fold

__all__ = ["is_correct", "is_refusal", "mean_nll_per_row", "rouge_l_f1", "rouge_l_recall"]

# ------------------------------------------------------------------------------------ ROUGE-L


def rouge_l_recall(reference: str, generated: str, *, stemmer: bool = True) -> float:
    """ROUGE-L recall: longest common subsequence of words / words of the reference.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), eq. 2; TOFU's choice
    (arXiv 2401.06121), which asks whether the gold answer is in the reply, however long.

    Args:
        reference: The gold answer.
        generated: The model's reply.
        stemmer: Compare Porter stems of words longer than three letters, as TOFU does.

    Returns:
        A share between 0 and 1; 0 where either text has no word. Words are runs of ``[a-z0-9]``
        after lower-casing, so that texts in other scripts score 0.
    """
    return float(_scorer(stemmer).score(reference, generated)["rougeL"].recall)


def rouge_l_f1(reference: str, generated: str, *, stemmer: bool = True) -> float:
    """ROUGE-L F1: harmonic mean of the recall above and of the precision.

    Precision is longest common subsequence / words of the reply (Lin 2004, eqs. 2 to 4 with
    beta = 1). MUSE (arXiv 2407.06460) reports this one, without stemmer. Arguments and words as in
    `rouge_l_recall`.
    """
    return float(_scorer(stemmer).score(reference, generated)["rougeL"].fmeasure)


@lru_cache(maxsize=2)
def _scorer(stemmer: bool) -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=stemmer)


# -------------------------------------------------------------------------- correct or not

_NUMBER_WORDS = """zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"""
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_MAGNITUDES = frozenset(f"{_TENS} hundred thousand million billion".split())
_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"\d+(?:\.\d+)+|[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def is_correct(generated: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted answers stands in the reply as whole words.

    Both sides are normalised alike: Unicode NFKC, case, accents, punctuation, possessive ``'s`` and
    articles are removed, and number words from zero to twenty equal their digits unless they are
    part of a larger number ("twenty-one", "two hundred"). Chinese and Japanese characters count as
    words of their own. A negated answer ("it is not Paris") is found all the same.

    Args:
        generated: The model's reply.
        accepted: The spellings that count, at least one.

    Raises:
        InputError: ``accepted`` is empty: such a row has no right or wrong.
    """
    if not accepted:
        raise InputError(
            "accepted: expected at least one accepted answer, found none; leave rows without "
            "accepted answers out of the correct-answer rate"
        )
    return any(_stands_in(answer, generated) for answer in accepted)


def _stands_in(answer: str, reply: str) -> bool:
    """Whole-word containment.

    Articles count where the answer is nothing else ("A"); an answer without any word ("+") is
    looked up letter by letter.
    """
    for articles in (False, True):
        words = _words(answer, articles=articles)
        if words:
            return f" {' '.join(words)} " in f" {' '.join(_words(reply, articles=articles))} "
    return bool(answer.strip()) and answer.strip() in reply


def _words(text: str, *, articles: bool) -> list[str]:
    """The words of a text, normalised; with or without its articles."""
    plain = re.sub(r"(?<=\w)'s\b", "", fold(text)).replace("'", "")
    words = _WORD.findall(plain)
    if not articles:
        words = [word for word in words if word not in _ARTICLES]
    return [_as_digits(words, index) for index in range(len(words))]


def _as_digits(words: list[str], index: int) -> str:
    """The word, as digits where it is a number word that stands alone."""
    neighbours = (*words[max(0, index - 1) : index], *words[index + 1 : index + 2])
    if any(word in _MAGNITUDES for word in neighbours):
        return words[index]
    if words[index] == "twenty" and any(word in _DIGITS for word in words[index + 1 : index + 2]):
        return words[index]
    return _DIGITS.get(words[index], words[index])


# ------------------------------------------------------------------------------- likelihood


def mean_nll_per_row(log_probs: Tensor, rows: Tensor, batch_size: int) -> Tensor:
    """Mean negative log-likelihood of each row's answer tokens, in nats per token.

    ``nll[b] = -sum_n [rows[n] = b] log_probs[n] / sum_n [rows[n] = b]``; its exponential is the
    perplexity, ``exp(-nll)`` is TOFU's answer probability (arXiv 2401.06121, section 2.2.1).

    Args:
        log_probs: ``[N]``, floating point: log-probability of each answer token, in nats.
        rows: ``[N]``, int64: the row of each answer token, 0 to ``batch_size - 1``.
        batch_size: Number of rows ``B``.

    Returns:
        ``[B]``, at least float32, on the same device; NaN for a row without answer tokens.

    Raises:
        ValueError: The two tensors are not vectors of one length, or a row is out of range.
    """
    if log_probs.ndim != 1 or log_probs.shape != rows.shape:
        raise ValueError(
            f"log_probs and rows: expected two vectors of one length, found shapes "
            f"{tuple(log_probs.shape)} and {tuple(rows.shape)}"
        )
    if rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < batch_size):
        raise ValueError(
            f"rows: expected numbers from 0 to {batch_size - 1} (batch_size {batch_size}), found "
            f"{int(rows.min())} to {int(rows.max())}"
        )
    values = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    totals = values.new_zeros(batch_size).index_add(0, rows, values)
    counts = values.new_zeros(batch_size).index_add(0, rows, torch.ones_like(values))
    return -totals / counts
