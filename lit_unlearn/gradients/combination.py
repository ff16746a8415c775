"""Combinations: from the objectives' gradients to the update, where no weights will do.

The sibling of a weighting, which sees inner products only. A combination reads the gradients
themselves, element by element, so it needs all of them at once. To add one: subclass `Combination`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.collect import Gradient, combine
from lit_unlearn.gradients.elementwise import sign_agreement
from lit_unlearn.gradients.weighting.base import Fixed, Named, Weighting
from lit_unlearn.gradients.weighting.two_sided import check_sides

__all__ = ["SAGO", "Combination", "check_alone"]


class Combination(Named, ABC):
    """Turns the gradients of the objectives into the gradient of the update."""

    @abstractmethod
    def forward(self, gradients: Sequence[Gradient], preferences: Tensor) -> Gradient:
        """The update.

        Args:
            gradients: ``M`` gradients of unweighted losses, in the order of `names`, over the same
                parameters; left as they are.
            preferences: ``[M]``, float64: the objectives' weights at this step.

        Returns:
            One tensor or None per trainable parameter, sharded as the gradients are.
        """


def check_alone(combination: Combination | None, weighting: Weighting | None) -> None:
    """See that a combination has no weighting beside it; Fixed does nothing, and may stand there.

    Raises:
        InputError: Both are given.
    """
    if combination is not None and not isinstance(weighting, Fixed | None):
        raise InputError(
            f"Parameter `model.combination` ({type(combination).__name__}) makes the whole update, "
            f"so `model.weighting` should be null or Fixed. Found {type(weighting).__name__}; take "
            "one of the two out."
        )


class SAGO(Combination):
    """Where signs differ follows what is kept, where they agree what forgets, element by element.

    Xiao et al. 2026, "Modeling LLM Unlearning as an Asymmetric Two-Task Learning Problem",
    arXiv:2604.14808. The gradients of the objectives in `forget`, each with its objective's weight,
    are added to g_f, all others to g_r. The update is g_r where ``g_f g_r < 0``, else g_f alone, so
    that nothing moves where g_f is 0. It never has a negative inner product with g_r. In a step in
    which one side has no rows, or the weight 0, the update is the other side's gradient. Memory:
    all gradients at once, and three more.

    Args:
        forget: Names of the objectives on the forget side; all others are on the retain side.
        agreed: What is taken where the signs agree: `forget` alone (SAGO), or the `sum` of both
            (the variant that the authors' code calls "prefer retain").
    """

    def __init__(
        self,
        forget: tuple[str, ...] = ("forget",),
        agreed: Literal["forget", "sum"] = "forget",
    ) -> None:
        super().__init__()
        self.forget = tuple(forget)
        self.agreed: Literal["forget", "sum"] = agreed

    def bind(self, names: Sequence[str]) -> None:
        """Take the names of the objectives, in the order of the gradients.

        Raises:
            InputError: A name in `forget` is not an objective, or a side is empty.
        """
        check_sides(type(self).__name__, self.forget, names)
        super().bind(names)

    def forward(self, gradients: Sequence[Gradient], preferences: Tensor) -> Gradient:
        """See `Combination.forward`.

        Raises:
            InputError: The gradients are not those of the objectives that were bound.
        """
        if len(gradients) != len(self.names):
            raise InputError(
                f"{type(self).__name__} should know the name of every gradient. Found "
                f"{len(self.names)} names for {len(gradients)} gradients. Call `bind` with the "
                "objectives' names before the first step."
            )
        forget = self._side(gradients, preferences, forgets=True)
        retain = self._side(gradients, preferences, forgets=False)
        if forget is None or retain is None:
            return forget or retain or [None] * len(gradients[0])
        return sign_agreement(forget, retain, self.agreed)

    def _side(
        self, gradients: Sequence[Gradient], preferences: Tensor, *, forgets: bool
    ) -> Gradient | None:
        """The weighted sum of one side; None where no objective of it has a part in this step."""
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
