"""Scores of teacher-forced answers, from log-probabilities in nats and from greedy hits.

A *mean log-probability* is the mean over one answer's tokens, with the end-of-turn token. It is
minus the loss per token, so that ``exp`` of it is TOFU's answer probability (Maini et al., "TOFU",
arXiv 2401.06121, section 2.2). A function whose definition leaves out the end-of-turn token says
so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.statistics import harmonic_mean, mean
from lit_unlearn.metrics.functional.tokens import answer_positions, token_statistics

__all__ = [
    "answer_log_probs",
    "answer_probability",
    "closeness_to_one",
    "exact_memorisation",
    "extraction_strength",
    "mean_nll_per_row",
    "model_utility",
    "probability_with_options",
    "softmax",
    "truth_margin",
    "truth_ratio",
    "truth_share",
]

_UTILITY_PARTS = 9


def answer_probability(log_probs: Sequence[float]) -> float:
    """Return ``exp(mean log p)``, the answer's probability to the power 1 / number of tokens.

    Returns:
        A share between 0 and 1; NaN for an answer without tokens.
    """
    return math.exp(mean(log_probs)) if log_probs else math.nan


def probability_with_options(right: float, wrong: Sequence[float]) -> float:
    """Return ``p_right / (p_right + sum of p_wrong)`` (TOFU, section 2.2.1).

    Args:
        right: Mean log-probability of the right answer.
        wrong: Mean log-probabilities of the wrong answers.

    Returns:
        A share between 0 and 1, even if all probabilities are too small for a float.
    """
    return softmax([right, *wrong])[0]


def softmax(scores: Sequence[float]) -> list[float]:
    """Return ``exp(s_i) / sum_j exp(s_j)`` for each i, without overflow.

    Raises:
        InputError: There is no score.
    """
    if not scores:
        raise InputError("Parameter `scores` should hold at least one score. Found none.")
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def mean_nll_per_row(log_probs: Tensor, rows: Tensor, batch_size: int) -> Tensor:
    """Return the mean negative log-likelihood of each row's answer tokens, in nats per token.

    ``nll[b] = -sum_n [rows[n] = b] log_probs[n] / sum_n [rows[n] = b]``. Its exponential is the
    perplexity, ``exp(-nll)`` is TOFU's answer probability (arXiv 2401.06121, section 2.2.1).

    Args:
        log_probs: ``[N]``, floating point: log-probability of each answer token, in nats.
        rows: ``[N]``, int64: row of each answer token, 0 to ``batch_size - 1``.
        batch_size: Number of rows ``B``.

    Returns:
        ``[B]``, at least float32, on the same device; NaN for a row without answer tokens.

    Raises:
        ValueError: The two tensors are not vectors of one length, or a row is out of range.
    """
    if log_probs.ndim != 1 or log_probs.shape != rows.shape:
        raise ValueError(
            f"`log_probs` and `rows` should be vectors of one length. Found shapes "
            f"{tuple(log_probs.shape)} and {tuple(rows.shape)}."
        )
    if rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < batch_size):
        raise ValueError(
            f"`rows` should hold numbers from 0 to {batch_size - 1}. Found {int(rows.min())} to "
            f"{int(rows.max())}."
        )
    values = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    totals = values.new_zeros(batch_size).index_add(0, rows, values)
    counts = values.new_zeros(batch_size).index_add(0, rows, torch.ones_like(values))
    return -totals / counts


def answer_log_probs(preds: Tensor, target: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return the mean log-probability of each row's answer, minus its `mean_nll_per_row`.

    Args:
        preds: ``[B, T, V]`` logits, or ``[N, V]`` with ``rows``; see `answer_positions`.
        target: ``[B, T]`` or ``[N]``, int64; -100 where a position belongs to no answer.
        rows: ``[N]``, int64: row of each packed position, 0 to ``B - 1``.

    Returns:
        ``[B]``, nats per token, float32; NaN for a row without answer tokens.

    Raises:
        InputError: As in `answer_positions`.
    """
    count = len(target) if rows is None else int(rows.max()) + 1
    logits, labels, rows = answer_positions(preds, target, rows)
    return -mean_nll_per_row(token_statistics(logits, labels)[0], rows, count)


# ---------------------------------------------------------------------------------- truth ratio


def truth_ratio(right: float, wrong: Sequence[float]) -> float:
    """Return ``x = p_wrong / p_right``, p_wrong being the geometric mean of the wrong answers.

    ``exp(mean of wrong - right)``, as TOFU's published figures and open-unlearning have it. Eq. 1
    of the paper (arXiv 2401.06121) has an arithmetic mean of the wrong answers' probabilities.

    Args:
        right: Mean log-probability of the right answer: of its paraphrase if there is one (forget
            and retain rows), else of the answer itself (real authors, world facts).
        wrong: Mean log-probabilities of the perturbed answers.

    Returns:
        0 or more; infinity above the largest float; NaN without wrong answers.
    """
    if not wrong:
        return math.nan
    exponent = mean(wrong) - right
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf


def closeness_to_one(ratio: float) -> float:
    """Return ``min(x, 1/x)``, TOFU's aggregate for forget rows; 1 if both are as likely."""
    return min(ratio, 1 / ratio) if ratio else 0.0


def truth_margin(ratio: float) -> float:
    """Return ``max(0, 1 - x)``, TOFU's aggregate for other rows; 1 if only the truth is likely."""
    return max(0.0, 1 - ratio) if not math.isnan(ratio) else math.nan


def truth_share(ratio: float) -> float:
    """Return ``p_right / (p_right + p_wrong) = 1 / (1 + x)``, open-unlearning's ``prob_mean``."""
    return 1 / (1 + ratio)


# ------------------------------------------------------------------------------- memorisation


def extraction_strength(hits: Sequence[bool], *, end_of_turn: bool = False) -> float:
    """Return ``1 - k / T``, the share of the answer that greedy decoding completes by itself.

    k is the smallest number of given tokens after which all T - k others are predicted (Carlini et
    al. 2021; open-unlearning, arXiv 2506.12618). If the last token is not predicted, it is 0, while
    open-unlearning's code gives 1 / T.

    Args:
        hits: Whether each token is the most probable one, the end-of-turn token last.
        end_of_turn: Count the end-of-turn token too; open-unlearning drops it.

    Returns:
        A share between 0 and 1; NaN for an answer without tokens.
    """
    counted = _counted(hits, end_of_turn)
    if not counted:
        return math.nan
    last_miss = max((index for index, hit in enumerate(counted) if not hit), default=-1)
    return 1 - (last_miss + 1) / len(counted)


def exact_memorisation(hits: Sequence[bool], *, end_of_turn: bool = False) -> float:
    """Return the share of an answer's tokens that are the most probable ones after those before.

    Tirumala et al. 2022 (arXiv 2205.10770), section 2; open-unlearning. Arguments and NaN are those
    of `extraction_strength`.
    """
    counted = _counted(hits, end_of_turn)
    return sum(counted) / len(counted) if counted else math.nan


def _counted(hits: Sequence[bool], end_of_turn: bool) -> Sequence[bool]:
    return hits if end_of_turn else hits[:-1]


# -------------------------------------------------------------------------------- model utility


def model_utility(parts: Sequence[float]) -> float:
    """Return TOFU's model utility, the harmonic mean of nine means (section 2.2.2).

    Args:
        parts: Probability, ROUGE-L recall and truth ratio of the retain rows, the real authors and
            the world facts.

    Returns:
        A share between 0 and 1; 0 if one of the nine is 0.

    Raises:
        InputError: There are not nine of them.
    """
    if len(parts) != _UTILITY_PARTS:
        raise InputError(
            "Parameter `parts` should be nine means: probability, ROUGE-L recall and truth ratio "
            f"of three groups. Found {len(parts)}."
        )
    return harmonic_mean(parts)
