"""The course of the learning rate over the optimizer steps."""

import math
from typing import Literal

__all__ = ["LearningRateSchedule", "factor"]

LearningRateSchedule = Literal["constant", "linear", "cosine"]


def factor(step: int, steps: int, warmup: int, schedule: LearningRateSchedule) -> float:
    """Return the factor of the learning rate at a step, counted from 0; it is 0 to 1.

    In the warm-up it rises linearly from 1 / warmup to 1, afterwards it is ``constant``, or falls
    to 0 after the last step as a ``linear`` function or half a ``cosine`` wave. ``get_scheduler``
    of transformers starts its warm-up at 0, so that the first of few steps would change nothing.
    """
    if step < warmup:
        return (step + 1) / warmup
    left = max(0.0, 1 - (step - warmup) / max(1, steps - warmup))
    if schedule == "linear":
        return left
    if schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return 1.0
