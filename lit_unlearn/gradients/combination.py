"""Combinations: rules that compute the update from the objectives' gradients themselves.

A weighting only reads inner products. A combination reads the gradients element by element, so it
needs all of them at once. To add one, write a subclass of `Combination`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.gradients.collect import Gradient, add_to, check_lengths, combine
from lit_unlearn.gradients.spectrum import collapsed
from lit_unlearn.gradients.weighting.base import Fixed, Rule, Weighting
from lit_unlearn.gradients.weighting.two_sided import check_named, check_sides

__all__ = ["SAGO", "Combination", "RepSelect", "TwoSidedCombination", "check_alone"]
__all__ += ["sign_agreement"]


class Combination(Rule, ABC):
    """Rule that turns the gradients of the objectives into the gradient of the update."""

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


def check_alone(combination: Combination | None, weighting: Weighting | None) -> None:
    """Check that a combination is used without a weighting, or with Fixed, which has no effect."""
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


@dataclass
class SAGO(TwoSidedCombination):
    """Element by element: the retain gradient where signs differ, else the forget gradient.

    Xiao et al. 2026, "Modeling LLM Unlearning as an Asymmetric Two-Task Learning Problem",
    arXiv:2604.14808. The gradients of the objectives in `forget`, each with its objective's weight,
    are added to g_f, all others to g_r. The update is g_r where ``g_f g_r < 0``, else g_f alone, so
    that nothing moves where g_f is 0. It never has a negative inner product with g_r. In a step in
    which one side has no rows, or the weight 0, the update is the other side's gradient. Memory:
    all gradients at once, and three more.

    Args:
        forget: Names of the objectives on the forget side; all others are on the retain side.
        agreed: Update where the signs agree: `forget` alone (SAGO), or the `sum` of both (the
            variant that the authors' code calls "prefer retain").
    """

    agreed: Literal["forget", "sum"] = "forget"

    def bind(self, names: Sequence[str]) -> None:
        check_sides(type(self).__name__, self.forget, names)
        super().bind(names)

    def joined(self, forget: Gradient | None, retain: Gradient | None) -> Gradient:
        if forget is None or retain is None:
            return forget or retain or []
        return sign_agreement(forget, retain, self.agreed)


@dataclass
class RepSelect(TwoSidedCombination):
    """Take out of the forget gradient of each matrix the directions that much else shares.

    Sondej, Yang and Mahdi 2026, arXiv 2606.17168: unlearning that moves the main directions of
    activations and gradients harms other skills, and a few steps of training undo it. The largest
    singular values s_i of each matrix of g_f become ``s^2 / s_i``, with s the smallest of them (see
    `spectrum.collapsed`); g_r, the sum of the retain side, is added unchanged. Vectors are not
    filtered. The authors filter one gradient of all forget rows over the MLP matrices, under an
    adversarial adapter that is then dropped, and step along it with SGD; here every step filters
    its own gradient, and there is no adapter (their ablation without LoRA). Not for sharded
    weights. Memory: all gradients at once, and three more.

    Args:
        forget: Names of the objectives on the forget side; all others are on the retain side.
        components: Number of singular values of each matrix that are collapsed; 512 is published
            for models of 8 billion parameters.
    """

    components: int = ranged(512, 1)

    def bind(self, names: Sequence[str]) -> None:
        check_named(type(self).__name__, self.forget, names)
        super().bind(names)

    def joined(self, forget: Gradient | None, retain: Gradient | None) -> Gradient:
        if forget is None:
            return retain or []
        if any(isinstance(tensor, DTensor) for tensor in forget):
            raise InputError(
                "Parameter `model.combination` should not be RepSelect under a strategy that "
                "shards the weights, whose matrices it needs as a whole. Found one; use `ddp`."
            )
        filtered = [
            tensor if tensor is None or tensor.dim() != 2 else collapsed(tensor, self.components)
            for tensor in forget
        ]
        if retain is not None:
            add_to(filtered, retain)
        return filtered


@torch.no_grad()
def sign_agreement(
    forget: Gradient, retain: Gradient, agreed: Literal["forget", "sum"] = "forget"
) -> Gradient:
    """Return SAGO's update: the retain gradient where signs differ, else the forget gradient.

    Xiao et al. 2026, arXiv 2604.14808. Where the product of the two elements is negative, the
    retain element is taken; else, also where one is zero, the forget element alone (or the sum, see
    `SAGO`). Both carry their objectives' weights (gamma and alpha in the paper's code) and are not
    changed; None is zero everywhere. The update has a non-negative inner product with the retain
    gradient: every element has the sign of the retain element, or one of the two is 0.

    It works on shards (DTensor) as on whole tensors, in one pass over both gradients.
    """
    check_lengths("retain", len(retain), len(forget))
    return [_agreement(f, r, agreed) for f, r in zip(forget, retain, strict=True)]


def _agreement(forget: Tensor | None, retain: Tensor | None, agreed: str) -> Tensor | None:
    """Return the update of one parameter; None counts as zeros."""
    present = retain if forget is None else forget
    if present is None:
        return None
    f = torch.zeros_like(present) if forget is None else forget
    r = torch.zeros_like(present) if retain is None else retain
    return torch.where(f.sign() * r.sign() < 0, r, f if agreed == "forget" else f + r)
