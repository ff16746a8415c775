"""Schedules: how the weight of an objective changes over the steps."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from lit_unlearn.errors import check_number

__all__ = ["Constant", "LinearDecay", "LinearWarmup", "Schedule"]


class Schedule(ABC):
    """A factor between 0 and 1 for each optimizer step."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """Return the factor at a step; the first step is 0."""


class Constant(Schedule):
    """The weight stays as it is."""

    def factor(self, step: int) -> float:
        return 1.0


@dataclass
class LinearWarmup(Schedule):
    """From 1 / steps in the first step to 1 after `steps` steps.

    Args:
        steps: Steps until the full weight, at least 1.
    """

    steps: int

    def __post_init__(self) -> None:
        check_number("LinearWarmup.steps", self.steps, 1)

    def factor(self, step: int) -> float:
        return min(1.0, (step + 1) / self.steps)


@dataclass
class LinearDecay(Schedule):
    """1 until step `start`, then down to 0 within `steps` steps.

    Args:
        steps: Steps from the full weight to none, at least 1.
        start: First step of the decay.
    """

    steps: int
    start: int = 0

    def __post_init__(self) -> None:
        check_number("LinearDecay.steps", self.steps, 1)

    def factor(self, step: int) -> float:
        return 1.0 - min(1.0, max(0, step - self.start) / self.steps)
