"""The interface of a combination, and what those with a forget side have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.collect import Gradient, combine
from lit_unlearn.gradients.weighting.base import Fixed, Rule, Weighting

__all__ = ["Combination", "TwoSidedCombination", "check_alone"]


class Combination(Rule, ABC):
    """Rule that turns the gradients of the objectives into the gradient of the update."""

    scales_update = False
    """Whether the update has a length of its own, which clipping would undo."""

    @property
    def further_gradients(self) -> int:
        """Number of tensors of the gradients' size that the rule holds besides them."""
        return 2

    @abstractmethod
    def __call__(self, gradients: Sequence[Gradient], preferences: Tensor) -> Gradient:
        """Return the update from ``M`` gradients of unweighted losses, sharded as these are.

        The gradients, in the order of `names`, are not changed. ``preferences`` (``[M]``, float64)
        are the objectives' weights at this step.
        """


def check_alone(
    combination: Combination | None, weighting: Weighting | None, clip_norm: float | None = None
) -> None:
    """Check that a combination is used without a weighting, or with Fixed, which has no effect.

    One that gives the update its length is used without clipping, too.
    """
    if combination is not None and combination.scales_update and clip_norm is not None:
        raise InputError(
            f"Parameter `model.clip_norm` should be null beside {type(combination).__name__}, "
            f"whose update is as long as one of Adam's. Found {clip_norm}; set it to null."
        )
    if combination is not None and not isinstance(weighting, Fixed | None):
        raise InputError(
            f"Parameter `model.combination` ({type(combination).__name__}) makes the whole update, "
            f"so `model.weighting` should be null or Fixed. Found {type(weighting).__name__}; "
            "remove one of the two."
        )


@dataclass
class TwoSidedCombination(Combination):
    """A combination of two gradients, each the weighted sum of the gradients of one side.

    In a step in which one side has no rows, or the weight 0, there is only the other side's.

    Args:
        forget: Names of the objectives on the forget side; all others are on the retain side.
    """

    forget: tuple[str, ...] = ("forget",)

    @abstractmethod
    def joined(self, forget: Gradient | None, retain: Gradient | None) -> Gradient:
        """Return the update from the gradients of the sides, at least one of which is there."""

    def __call__(self, gradients: Sequence[Gradient], preferences: Tensor) -> Gradient:
        self.check_count(len(gradients), "gradient")
        forget = self._side(gradients, preferences, forgets=True)
        retain = self._side(gradients, preferences, forgets=False)
        if forget is None and retain is None:
            return [None] * len(gradients[0])
        return self.joined(forget, retain)

    def _side(
        self, gradients: Sequence[Gradient], preferences: Tensor, *, forgets: bool
    ) -> Gradient | None:
        """Return the weighted sum of one side; None if it has no rows or only weights 0."""
        members = [
            index
            for index, name in enumerate(self.names)
            if (name in self.forget) is forgets
            and float(preferences[index]) != 0
            and any(tensor is not None for tensor in gradients[index])
        ]
        if not members:
            return None
        return combine([gradients[index] for index in members], preferences[members])
