"""The course of the learning rate over the optimizer steps."""

import math
from typing import Literal

__all__ = ["LearningRateSchedule", "factor"]

LearningRateSchedule = Literal["constant", "linear", "cosine"]


def factor(step: int, steps: int, warmup: int, schedule: LearningRateSchedule) -> float:
    """Return the factor of the learning rate at a step, 0 to 1.

    ``get_scheduler`` of transformers starts its warm-up at 0, so that the first of few steps would
    change nothing.

    Args:
        step: Number of the step; the first is 0.
        steps: Steps of the whole run.
        warmup: Steps in which the factor rises linearly, from 1 / warmup to 1.
        schedule: Course after the warm-up: ``constant``, or down to 0 after the last step as a
            ``linear`` function or half a ``cosine`` wave.
    """
    if step < warmup:
        return (step + 1) / warmup
    left = max(0.0, 1 - (step - warmup) / max(1, steps - warmup))
    if schedule == "linear":
        return left
    if schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return 1.0
