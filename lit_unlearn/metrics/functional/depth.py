"""Figures of what a model's hidden states still hold: erased shares, and a linear probe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_unlearn.errors import InputError

__all__ = ["Probed", "erased_share", "linear_probe"]

Array = NDArray[np.float64]

_FOLDS = 5
_LEAST_QUESTIONS = 3
_RIDGE = 0.1
"""Ridge penalty, as a multiple of the mean eigenvalue of the states' second moments."""


def erased_share(
    falls: Sequence[float], reference_falls: Sequence[float], threshold: float = 0.05
) -> float:
    """Return the share of what a retain model lacks that another model lacks too, 0 to 1.

    ``sum_l clip(own_l, 0, ref_l) / sum_l ref_l`` over the blocks l with ``ref_l > threshold``. With
    falls under activation patching this is the Unlearning Depth Score of one row (arXiv 2605.24614,
    section 3.3: a mean of ``clip(own / ref, 0, 1)`` weighted by ``ref``), with falls of the logit
    lens its metric of that name. 0 is a model that is intact, 1 one that lacks as much as the
    retain model in each block.

    Args:
        falls: Fall of the answer's mean log-probability per block, in nats, of the model.
        reference_falls: The same of the retain model.
        threshold: Smallest fall of a block that counts, in nats.

    Returns:
        A share; NaN if no block counts, or a fall of one that counts is NaN.
    """
    counted = [pair for pair in zip(falls, reference_falls, strict=True) if pair[1] > threshold]
    if not counted or any(math.isnan(own) for own, _ in counted):
        return math.nan
    erased = math.fsum(min(max(own, 0.0), theirs) for own, theirs in counted)
    return erased / math.fsum(theirs for _, theirs in counted)


class Probed(NamedTuple):
    """Results of a linear probe: the share of each question's wrong answers that it ranks lower."""

    chosen: Array
    """``[Q]``, at the block that is best on the other questions; 0.5 is chance."""
    by_block: Array
    """``[Q, K]``, at every block."""


def linear_probe(states: Sequence[Array], right: Sequence[Sequence[bool]]) -> Probed | None:
    """Return whether a linear probe tells right answers from wrong ones, by cross-validation.

    States of one question's answers are centred, so that the probe learns what right answers have
    in common, not what questions are about. A ridge regression on the labels of the other
    questions (4 of 5 parts) gives the direction; the block is chosen on these as well, so that
    neither has seen the question. Probes of truth on hidden states: Azaria and Mitchell 2023 (arXiv
    2304.13734), Marks and Tegmark 2023 (arXiv 2310.06824); on unlearned models: Lynch et al. 2024
    (arXiv 2402.16835). The order of questions decides their parts: give a fixed one.

    Args:
        states: For each of Q questions ``[C, K, d]``: its C answers, at K blocks.
        right: For each question, which of its answers are right.

    Returns:
        The results; None for fewer than 3 questions.

    Raises:
        InputError: A question without a right or without a wrong answer.
    """
    if any(all(each) or not any(each) for each in right):
        raise InputError("Parameter `right` should mark right and wrong answers of each question.")
    count = len(states)
    if count < _LEAST_QUESTIONS:
        return None
    centred = [each - each.mean(axis=0) for each in states]
    labels = [np.array(each, float) - np.mean(each) for each in right]
    parts = np.arange(count) % min(_FOLDS, count)
    moments = [_moments(centred, labels, np.flatnonzero(parts == part)) for part in set(parts)]
    by_block, chosen = np.zeros((count, states[0].shape[1])), np.zeros(count)
    for part in range(len(moments)):
        train = [index for index in range(len(moments)) if index != part]
        inner = np.zeros((count, states[0].shape[1]))
        for held_out in train:
            rest = [index for index in train if index != held_out]
            if rest:
                _rank(inner, centred, right, np.flatnonzero(parts == held_out), moments, rest)
        _rank(by_block, centred, right, np.flatnonzero(parts == part), moments, train)
        best = inner[parts != part].mean(axis=0).argmax()
        chosen[parts == part] = by_block[parts == part, best]
    return Probed(chosen, by_block)


def _moments(
    states: Sequence[Array], labels: Sequence[Array], chosen: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Return ``X^T X`` ``[K, d, d]`` and ``X^T y`` ``[K, d]`` of the answers of some questions."""
    x = np.concatenate([states[index] for index in chosen]).transpose(1, 2, 0)
    y = np.concatenate([labels[index] for index in chosen])
    return x @ x.transpose(0, 2, 1), x @ y


def _rank(
    into: Array,
    states: Sequence[Array],
    right: Sequence[Sequence[bool]],
    tested: NDArray[np.intp],
    moments: Sequence[tuple[Array, Array]],
    train: Sequence[int],
) -> None:
    """Write the share of wrong answers below the right ones for the tested questions."""
    second = np.sum([moments[part][0] for part in train], axis=0)
    first = np.sum([moments[part][1] for part in train], axis=0)
    width = second.shape[-1]
    penalty = _RIDGE * np.trace(second, axis1=1, axis2=2) / width + 1e-12
    ridge = second + penalty[:, None, None] * np.eye(width)
    directions = np.linalg.solve(ridge, first[..., None])[..., 0]
    for question in tested:
        scores = np.einsum("ckd,kd->ck", states[question], directions)
        is_right = np.array(right[question])
        gaps = scores[is_right][:, None] - scores[~is_right][None]
        into[question] = (0.5 + 0.5 * np.sign(gaps)).mean(axis=(0, 1))
