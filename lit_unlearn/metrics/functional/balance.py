"""The balanced score of an unlearned model: five parts, each 0 to 1, and their harmonic mean.

Two scales make parts of figures, both clipped to 0 and 1:

* *forgotten* = (start - model) / (start - never), for figures that should fall: 0 is the start
  model, 1 a model that never knew (0 where no such model is given);
* *kept* = model / start, for figures that should stay.

Then:

* forgetting = the least that is forgotten of what the model says (recall of the answers) and of
  what it still knows (their likelihood, extraction strength, logit lens, Unlearning Depth Score);
* utility = kept utility;
* boundary = kept rate of right answers to neighbours x kept rate of prompts that are not refused;
* robustness = forgotten recall under attack, the worst attempt of each row;
* readability = kept readability of the replies to the forgotten questions;
* balance = harmonic mean of the five, 0 if one of them is 0.

The harmonic mean follows the worst part, so that no part can make up for another. The start model
(forgetting 0), a model that declines everything (utility and boundary 0) and one that writes loops
or noise (readability 0) score about 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_unlearn.metrics.functional.resampling import Array
from lit_unlearn.metrics.functional.statistics import harmonic_means

__all__ = ["PARTS", "Measured", "balance", "forgotten", "kept", "least"]

PARTS = ("forgetting", "utility", "boundary", "robustness", "readability")


def forgotten(model: Array, start: Array, never: Array | float = 0.0) -> Array:
    """Return ``(start - model) / (start - never)``, clipped to 0 and 1.

    NaN where the start model is not above the model that never knew: nothing can be forgotten.

    Args:
        model: ``[...]`` figure of the unlearned model, of which less is better.
        start: ``[...]`` the same of the start model.
        never: ``[...]`` the same of a model that never knew.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (start - model) / (start - never)
        return np.where(start > never, np.clip(share, 0, 1), np.nan)


def kept(model: Array, start: Array) -> Array:
    """Return ``model / start``, clipped to 0 and 1; NaN where the start model has nothing.

    Args:
        model: ``[...]`` figure of the unlearned model, of which more is better.
        start: ``[...]`` the same of the start model.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(start > 0, np.clip(model / start, 0, 1), np.nan)


def least(shares: Sequence[Array]) -> Array:
    """Return the least of the shares ``[...]`` that are defined; NaN where none is."""
    stacked = np.stack(shares)
    lowest = np.where(np.isnan(stacked), np.inf, stacked).min(axis=0)
    return np.where(np.isinf(lowest), np.nan, lowest)


@dataclass(frozen=True)
class Measured:
    """Figures of one model for its balance, shares between 0 and 1."""

    recall: float
    """Recall of the forgotten answers without attack."""
    known: float
    """Probability of the forgotten answers, or another figure of what is known."""
    utility: float
    neighbor_correct: float
    """Rate of correct answers to neighbours of what was forgotten."""
    refused: float
    """Refusal rate on prompts that must be answered."""
    attacked: float
    """Mean over questions of the highest recall under attack."""
    readable: float
    """Readability of the replies to the forgotten questions."""


def balance(start: Measured, model: Measured, never: Measured | None = None) -> dict[str, float]:
    """Return the balanced score of a model (``score``) and its parts, by the formulas above.

    Args:
        start: Figures of the start model.
        model: Figures of the unlearned model.
        never: Figures of a model that never knew; None for a recall and a probability of 0.

    Returns:
        A part is NaN if a figure is, or if the start model has nothing to lose or to keep; then the
            score is, too.
    """

    def gone(name: str) -> Array:
        values = (0.0 if side is None else getattr(side, name) for side in (model, start, never))
        return forgotten(*map(np.asarray, values))

    def left(one: float, other: float) -> Array:
        return kept(np.asarray(one), np.asarray(other))

    answered = left(1 - model.refused, 1 - start.refused)
    parts = {
        "forgetting": least([gone("recall"), gone("known")]),
        "utility": left(model.utility, start.utility),
        "boundary": answered * left(model.neighbor_correct, start.neighbor_correct),
        "robustness": gone("attacked"),
        "readability": left(model.readable, start.readable),
    }
    score = harmonic_means(np.stack([parts[name] for name in PARTS]))
    return {name: float(value) for name, value in {"score": score, **parts}.items()}
