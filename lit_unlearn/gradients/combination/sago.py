"""SAGO: the forget gradient counts only where the retain gradient has the same sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.gradients.collect import Gradient, check_lengths
from lit_unlearn.gradients.combination.base import TwoSidedCombination
from lit_unlearn.gradients.weighting.two_sided import check_sides

__all__ = ["SAGO", "sign_agreement"]


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
