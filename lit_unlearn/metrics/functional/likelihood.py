"""What teacher-forced answers say: pure functions of log-probabilities, in nats, and of hits.

A *mean log-probability* is that of one answer's tokens, the end-of-turn token among them: minus the
answer's loss per token, so that ``exp`` of it is TOFU's answer probability (Maini et al., "TOFU",
arXiv 2401.06121, section 2.2). Where a definition leaves the end-of-turn token out, the function
says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.statistics import harmonic_mean, mean

_UTILITY_PARTS = 9


def answer_probability(log_probs: Sequence[float]) -> float:
    """``exp(mean log p)``: the answer's probability to the power 1 / its number of tokens.

    Returns:
        A share between 0 and 1; NaN for an answer without tokens.
    """
    return math.exp(mean(log_probs)) if log_probs else math.nan


def probability_with_options(right: float, wrong: Sequence[float]) -> float:
    """``p_right / (p_right + sum of p_wrong)``, of mean log-probabilities (TOFU, section 2.2.1).

    Args:
        right: Mean log-probability of the right answer.
        wrong: Those of the wrong ones.

    Returns:
        A share between 0 and 1, also where all probabilities are too small for a float.
    """
    return softmax([right, *wrong])[0]


def softmax(scores: Sequence[float]) -> list[float]:
    """``exp(s_i) / sum_j exp(s_j)``, without overflow.

    Raises:
        InputError: No score.
    """
    if not scores:
        raise InputError("Parameter `scores` should hold at least one score. Found none.")
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / math.fsum(powers) for power in powers]


# ---------------------------------------------------------------------------------- truth ratio


def truth_ratio(right: float, wrong: Sequence[float]) -> float:
    """``x = p_wrong / p_right``, with p_wrong the geometric mean over the wrong answers.

    ``exp(mean of wrong - right)``, as TOFU's published figures and open-unlearning have it; eq. 1
    of the paper (arXiv 2401.06121) writes an arithmetic mean of the wrong answers' probabilities.

    Args:
        right: Mean log-probability of the right answer: of its paraphrase where there is one
            (forget and retain rows), else of the answer itself (real authors, world facts).
        wrong: Mean log-probabilities of the perturbed answers.

    Returns:
        0 or more; infinite where it exceeds the largest float; NaN without wrong answers.
    """
    if not wrong:
        return math.nan
    exponent = mean(wrong) - right
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf


def closeness_to_one(ratio: float) -> float:
    """``min(x, 1/x)``: TOFU's aggregate for forget rows; 1 where right and wrong are as likely."""
    return min(ratio, 1 / ratio) if ratio else 0.0


def truth_margin(ratio: float) -> float:
    """``max(0, 1 - x)``: TOFU's aggregate for all other rows; 1 where only the truth is likely."""
    return max(0.0, 1 - ratio) if not math.isnan(ratio) else math.nan


def truth_share(ratio: float) -> float:
    """``p_right / (p_right + p_wrong) = 1 / (1 + x)``: open-unlearning's ``prob_mean``."""
    return 1 / (1 + ratio)


# ------------------------------------------------------------------------------- memorisation


def extraction_strength(hits: Sequence[bool], *, end_of_turn: bool = False) -> float:
    """``1 - k / T``: the share of the answer that greedy decoding completes by itself.

    k is the smallest number of given tokens after which all T - k others are predicted (Carlini et
    al. 2021; open-unlearning, arXiv 2506.12618). Where the last token is not predicted, it is 0;
    open-unlearning's code gives 1 / T there.

    Args:
        hits: Whether each token is the most probable one, the end-of-turn token last.
        end_of_turn: Count that token as well; open-unlearning drops it.

    Returns:
        A share between 0 and 1; NaN for an answer without tokens.
    """
    counted = _counted(hits, end_of_turn)
    if not counted:
        return math.nan
    last_miss = max((index for index, hit in enumerate(counted) if not hit), default=-1)
    return 1 - (last_miss + 1) / len(counted)


def exact_memorisation(hits: Sequence[bool], *, end_of_turn: bool = False) -> float:
    """Share of an answer's tokens that are the most probable ones, given those before them.

    Tirumala et al. 2022 (arXiv 2205.10770), section 2; open-unlearning. Arguments and NaN as in
    `extraction_strength`.
    """
    counted = _counted(hits, end_of_turn)
    return sum(counted) / len(counted) if counted else math.nan


def _counted(hits: Sequence[bool], end_of_turn: bool) -> Sequence[bool]:
    return hits if end_of_turn else hits[:-1]


# -------------------------------------------------------------------------------- model utility


def model_utility(parts: Sequence[float]) -> float:
    """TOFU's model utility: the harmonic mean of nine means (arXiv 2401.06121, section 2.2.2).

    Args:
        parts: Probability, ROUGE-L recall and truth ratio of the retain rows, the real authors and
            the world facts.

    Returns:
        A share between 0 and 1: 0 where one of the nine is 0.

    Raises:
        InputError: There are not nine of them.
    """
    if len(parts) != _UTILITY_PARTS:
        raise InputError(
            "Parameter `parts` should be nine means: probability, ROUGE-L recall and truth ratio "
            f"of three groups. Found {len(parts)}."
        )
    return harmonic_mean(parts)
