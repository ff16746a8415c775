"""Measures of a metric itself: does it tell models that know from models that do not, and reliably?

Definitions of the meta-evaluation of unlearning metrics in arXiv 2605.24614, which follow
OpenUnlearning (Dorna et al., arXiv 2506.12618, section 4). A value is higher for a model that knows
more.
"""

import math
from collections.abc import Sequence

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.statistics import auc, mean

__all__ = ["faithfulness", "quantisation_robustness", "relearning_robustness"]

_TINY = 1e-12
"""Keeps a ratio defined where both of its values are 0."""


def faithfulness(ignorant: Sequence[float], knowing: Sequence[float]) -> float:
    """Return the probability that a metric is higher for a knowing model than for an ignorant one.

    Args:
        ignorant: Value of the metric on each model that never knew.
        knowing: Value of the metric on each model that knows.

    Returns:
        The area under the ROC curve, 0 to 1; ties count half.

    Raises:
        InputError: One side has no value.
    """
    return auc(ignorant, knowing)


def quantisation_robustness(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the mean of ``Q = 1 - |after - before| / (|before| + |after|)`` over models.

    Args:
        before: Value of the metric on each unlearned model.
        after: Value on the same models with weights of 4 bits.

    Returns:
        0 to 1; 1 where quantisation changes nothing, also where both values are 0.

    Raises:
        InputError: There is no model, or not as many values after as before.
    """
    pairs = _paired(before, after)
    return mean([_closeness(first, second, second - first) for first, second in pairs])


def relearning_robustness(
    before: Sequence[float], after: Sequence[float], retain_before: float, retain_after: float
) -> float:
    """Return the mean of ``R = 1 - |d_u - d_r| / (|d_u| + |d_r|)`` over unlearned models.

    ``d_u = after - before`` of an unlearned model and ``d_r`` that of the retain model: a model
    that no longer knows should relearn as a model does that never knew.

    Args:
        before: Value of the metric on each unlearned model.
        after: Value on the same models after relearning.
        retain_before: Value on the retain model.
        retain_after: Value on the retain model after the same training.

    Returns:
        0 to 1; 1 where every model relearns like the retain model.

    Raises:
        InputError: There is no model, or not as many values after as before.
    """
    usual = retain_after - retain_before
    changes = [second - first for first, second in _paired(before, after)]
    return mean([_closeness(change, usual, change - usual) for change in changes])


def _closeness(first: float, second: float, difference: float) -> float:
    share = abs(difference) / (abs(first) + abs(second) + _TINY)
    return math.nan if math.isnan(share) else 1 - min(share, 1.0)


def _paired(before: Sequence[float], after: Sequence[float]) -> list[tuple[float, float]]:
    if not before or len(before) != len(after):
        raise InputError(
            f"Parameter `after` should hold a value for each value of `before`, at least one. "
            f"Found {len(after)} and {len(before)}."
        )
    return list(zip(before, after, strict=True))
