"""Statistics that show whether a text was in the training data, and MUSE's privacy leakage.

Each statistic is lower for a text that the model knows. With the forget texts as ``lower`` and
unseen texts as ``higher``, `statistics.auc` of a statistic is 1 if the model still separates them,
and 0.5 if it does not. Log-probabilities are in nats, without the end-of-turn token.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.statistics import mean

__all__ = ["loss", "min_k", "min_k_plus_plus", "priv_leak", "reference_difference", "zlib_ratio"]

_LEAST_DEVIATION = 1e-3


def loss(log_probs: Sequence[float]) -> float:
    """Return the mean negative log-probability (Yeom et al. 2018, arXiv 1709.01604)."""
    return -mean(log_probs)


def zlib_ratio(log_probs: Sequence[float], text: str) -> float:
    """Return the loss / bytes of the text under zlib (Carlini et al. 2021, arXiv 2012.07805)."""
    return loss(log_probs) / len(zlib.compress(text.encode("utf-8")))


def min_k(log_probs: Sequence[float], share: float = 0.4) -> float:
    """Return Min-K %, the mean negative log-probability of the least likely tokens.

    Shi et al. 2023 (arXiv 2310.16789), eq. 1, with the opposite sign. MUSE takes 40 %.

    Args:
        log_probs: Log-probability of each token of the text.
        share: Share of the tokens that count, above 0 and at most 1; at least one token counts.

    Returns:
        Nats per token; NaN for a text without tokens.

    Raises:
        InputError: ``share`` is out of range.
    """
    _check_share(share)
    count = max(1, int(len(log_probs) * share))
    return -mean(sorted(log_probs)[:count])


def min_k_plus_plus(
    log_probs: Sequence[float],
    means: Sequence[float],
    deviations: Sequence[float],
    share: float = 0.4,
) -> float:
    """Return Min-K %++, `min_k` of log-probabilities that are standardised over the vocabulary.

    Zhang et al. 2024 (arXiv 2404.02936), eq. 2, with the opposite sign: ``(log p - m) / s`` with
    mean m and standard deviation s of log p under the model's own distribution. A deviation below
    0.001 counts as 0.001.

    Args:
        log_probs: Log-probability of each token of the text.
        means: m at each position.
        deviations: s at each position.
        share: As in `min_k`.

    Raises:
        InputError: ``share`` is out of range, or the three differ in length.
    """
    if not len(log_probs) == len(means) == len(deviations):
        raise InputError(
            "Parameters `log_probs`, `means` and `deviations` should have one number per token. "
            f"Found {len(log_probs)}, {len(means)} and {len(deviations)}."
        )
    standardised = [
        (value - centre) / max(deviation, _LEAST_DEVIATION)
        for value, centre, deviation in zip(log_probs, means, deviations, strict=True)
    ]
    return min_k(standardised, share)


def reference_difference(own_loss: float, reference_loss: float) -> float:
    """Return the loss minus that of a model that has not seen the text (Carlini et al. 2021)."""
    return own_loss - reference_loss


def priv_leak(auc: float, retain_auc: float) -> float:
    """Return MUSE's privacy leakage in percent (Shi et al. 2024, arXiv 2407.06460, section 3.1).

    ``100 * ((1 - auc) - (1 - retain_auc)) / (1 - retain_auc)``. 0 is best. Near -100 the forget
    texts still differ from unseen ones; above 0 they are too unlikely.

    Args:
        auc: AUC of the model, 1 if the forget texts look like training data. MUSE's own code counts
            the other way, hence 1 - auc in the formula.
        retain_auc: AUC of a model that never saw the forget texts.

    Returns:
        Percent; NaN if ``retain_auc`` is 1.
    """
    return 100 * (retain_auc - auc) / (1 - retain_auc) if retain_auc != 1 else math.nan


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise InputError(f"Parameter `share` should be above 0 and at most 1. Found {share}.")
