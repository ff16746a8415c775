"""Two sides: rules of the unlearning literature for a forget gradient and a retain gradient.

These papers have two gradients, g_f and g_r. With more objectives, g_f is the sum of the gradients
on the forget side and g_r of all others, each with its objective's weight; inside a side the
weights keep their meaning.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.diagnostics import CANCELLED, norms
from lit_unlearn.gradients.weighting.base import Weighting, not_a_number

__all__ = ["NGDiff", "OneSidedProjection", "TwoSided", "check_named", "check_sides"]


def check_named(owner: str, forget: Sequence[str], names: Sequence[str]) -> None:
    """Check that an owner's forget side names some of the objectives, or all."""
    if not forget or not set(forget) <= set(names):
        raise InputError(
            f"Parameter `{owner}.forget` should name some of the objectives "
            f"({', '.join(names)}). Found: {', '.join(forget) or 'none'}. List the objectives that "
            "make the model forget."
        )


def check_sides(owner: str, forget: Sequence[str], names: Sequence[str]) -> None:
    """Check that an owner's forget side names some of the objectives, but not all."""
    if not forget or not set(forget) < set(names):
        raise InputError(
            f"Parameter `{owner}.forget` should name some of the objectives "
            f"({', '.join(names)}), but not all. Found: {', '.join(forget) or 'none'}. "
            "List the objectives that make the model forget."
        )


@dataclass
class TwoSided(Weighting):
    """A weighting of two gradients, each the sum of the gradients of one side.

    Args:
        forget: Names of the objectives on the forget side; all others are on the retain side.
    """

    forget: tuple[str, ...] = ("forget",)

    @abstractmethod
    def solve(self, inner: Tensor) -> Tensor:
        """Return the weights of the two sides, ``[2]``.

        ``inner`` is the Gramian of g_f and g_r (``[2, 2]``, float64), neither of which is zero.
        """

    def alone(self) -> Tensor:
        """Return the weights, ``[2]`` float64, for a side that is zero or cancels."""
        return torch.ones(2, dtype=torch.float64)

    def bind(self, names: Sequence[str]) -> None:
        check_sides(type(self).__name__, self.forget, names)
        super().bind(names)

    def __call__(self, gramian: Tensor) -> Tensor:
        self.check_count(len(gramian), "row")
        if not gramian.isfinite().all():
            return not_a_number(gramian)
        forgets = torch.tensor([name in self.forget for name in self.names])
        members = torch.stack([forgets, ~forgets]).double().to(gramian.device)
        inner = members @ gramian.double() @ members.T
        reach = members @ norms(gramian)
        if (inner.diagonal() <= CANCELLED * reach**2).any():
            return members.T @ self.alone().to(members)
        return members.T @ self.solve(inner)


@dataclass
class OneSidedProjection(TwoSided):
    """Project one side's gradient onto the normal plane of the other's, and add both.

    g_a is replaced by ``g_a - <g_a, g_b> / |g_b|^2 g_b``, which is orthogonal to g_b; g_b stays as
    it is. Settings that have a name:

    - PCGrad for unlearning (arXiv:2604.14808, global): `forget`, `conflict`: retain goes first.
    - GRU (Wang et al. 2025, arXiv:2503.09117): the same with `add_other` false: the retain gradient
      only restricts the forget gradient. GRU smooths the retain gradient over steps; here it is
      that of the step, so take larger retain batches.
    - PRISM (arXiv:2509.23362), its gradient conflict decoupling: `forget`, `always`.
    - BLUR (Reisizadeh et al. 2025, arXiv:2506.08164): `retain`, `always`: forgetting goes first.

    With `always`, agreement is removed as well, and weights can be negative.

    Args:
        projected: The side whose gradient is projected.
        when: Project only if the inner product is negative (`conflict`), or `always`.
        add_other: Whether the gradient of the other side is itself part of the update.
    """

    projected: Literal["forget", "retain"] = "forget"
    when: Literal["conflict", "always"] = "conflict"
    add_other: bool = True

    def solve(self, inner: Tensor) -> Tensor:
        other = 1 if self.projected == "forget" else 0
        product = inner[0, 1] if self.when == "always" else inner[0, 1].clamp(max=0)
        weights = self.alone().to(inner)
        weights[other] -= product / inner[other, other]
        return weights

    def alone(self) -> Tensor:
        other = float(self.add_other)
        both = [1.0, other] if self.projected == "forget" else [other, 1.0]
        return torch.tensor(both, dtype=torch.float64)


class NGDiff(TwoSided):
    """Add both sides with the same length: the update conflicts with neither.

    Jin et al. 2025, "Unlearning as multi-task optimization: A normalized gradient difference
    approach with an adaptive learning rate", arXiv:2410.22086: ``g_r / |g_r| - g_F / |g_F|``, where
    g_F is the gradient of the loss that must rise. Objectives here are losses that fall, so the
    gradient of the forget side is -g_F and the two are added. The sum is scaled by the geometric
    mean of the two norms, so that the update keeps the gradients' unit. The paper's automatic
    learning rate is not part of this. The weights of the objectives matter within a side only.
    """

    def solve(self, inner: Tensor) -> Tensor:
        lengths = norms(inner)
        return (lengths.flip(0) / lengths).sqrt()  # sqrt(|g_r| / |g_f|), sqrt(|g_f| / |g_r|)
