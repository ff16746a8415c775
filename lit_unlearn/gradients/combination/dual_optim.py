"""DualOptim+: Adam's moments as a part that all objectives share and a correction for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_unlearn.errors import ranged
from lit_unlearn.gradients.collect import Gradient, combine
from lit_unlearn.gradients.combination.base import Combination

__all__ = ["DualOptimPlus", "Moments"]

Moments = list[tuple[Tensor, Tensor] | None]
"""Running means of a gradient and of its square, by parameter; None before the first gradient."""


@dataclass
class DualOptimPlus(Combination):
    """Adam with a shared state and a correction for each objective, for any number of objectives.

    Zhong et al. 2026, arXiv 2605.21539, whose two objectives take turns; formulas as in
    CityU-MLO/DualOptimPlus@b370724 (adam_decouple_plus_step). With B the running mean of all
    gradients and D_i that of ``g_i - B`` (both of squares as well, and without their bias), the
    direction of objective i is ``(B + D_i) / (sqrt|B' + D_i'| + eps)``, where B is that before this
    step. Where gradients agree, D_i vanishes and the state is shared; where they are opposed, B
    does, and each objective has a state of its own. The update is the sum of the directions, each
    times its objective's weight. In a step with gradients of several objectives, B takes their mean
    (ours); with those of one, the rule is the published one.

    It replaces the optimizer's moments: use torch.optim.SGD without momentum, whose learning rate
    and weight decay act as AdamW's, and `clip_norm: null`. Not for sharded weights. Memory: all
    gradients at once, two tensors more for each of them, and three more.

    Args:
        beta1: Decay of the corrections' running means.
        beta2: Decay of those of squares.
        base_beta1: Decay of the shared running mean.
        base_beta2: Decay of that of squares.
        epsilon: Number added to the denominator.
    """

    beta1: float = ranged(0.9, 0, 0.9999)
    beta2: float = ranged(0.95, 0, 0.9999)
    base_beta1: float = ranged(0.9, 0, 0.9999)
    base_beta2: float = ranged(0.95, 0, 0.9999)
    epsilon: float = ranged(1e-8, 0, above=True)
    learnt = ("steps", "moments")
    scales_update = True
    steps: list[int] = field(default_factory=list, init=False, repr=False)
    """Numbers of gradients so far: of each objective, and last of steps with any."""
    moments: list[Moments] = field(default_factory=list, init=False, repr=False)
    """Corrections of each objective, and last the shared state."""

    @property
    def further_gradients(self) -> int:
        return 2 * (len(self.names) + 1) + 1

    @torch.no_grad()
    def __call__(self, gradients: Sequence[Gradient], preferences: Tensor) -> Gradient:
        self.check_count(len(gradients), "gradient")
        if not self.moments:
            self.steps = [0] * (len(gradients) + 1)
            self.moments = [[None] * len(gradients[0]) for _ in self.steps]
        given = [i for i, own in enumerate(gradients) if any(g is not None for g in own)]
        if not given:
            return [None] * len(gradients[0])
        directions = [self._direction(i, gradients[i]) for i in given]
        self.steps[-1] += 1
        for index, tensors in enumerate(zip(*(gradients[i] for i in given), strict=True)):
            present = [g.float() for g in tensors if g is not None]
            if present:
                mean = torch.stack(present).mean(0)
                square = torch.stack(present).square().mean(0)
                self._learn(-1, index, mean, square, (self.base_beta1, self.base_beta2))
        return combine(directions, preferences[given])

    def _direction(self, number: int, gradient: Gradient) -> Gradient:
        """Return the direction of an objective, and update its corrections."""
        self.steps[number] += 1
        found: Gradient = []
        for index, tensor in enumerate(gradient):
            if tensor is None:
                found.append(None)
                continue
            wide = tensor.float()
            mean, square = self._unbiased(-1, index, wide, (self.base_beta1, self.base_beta2))
            betas = (self.beta1, self.beta2)
            self._learn(number, index, wide - mean, wide.square() - square, betas)
            own, own_square = self._unbiased(number, index, wide, betas)
            size = (square + own_square).abs_().sqrt_().add_(self.epsilon)
            found.append(((mean + own) / size).to(tensor.dtype))
        return found

    def _learn(
        self, number: int, index: int, mean: Tensor, square: Tensor, betas: tuple[float, float]
    ) -> None:
        """Move the running means of a parameter a step towards new values."""
        old = self.moments[number][index] or (torch.zeros_like(mean), torch.zeros_like(square))
        first, second = (
            kept.to(new.device).mul_(beta).add_(new, alpha=1 - beta)
            for kept, new, beta in zip(old, (mean, square), betas, strict=True)
        )
        self.moments[number][index] = (first, second)

    def _unbiased(
        self, number: int, index: int, like: Tensor, betas: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """Return a parameter's running means, without the bias to their start at zero."""
        kept, steps = self.moments[number][index], self.steps[number]
        if kept is None:
            return torch.zeros_like(like), torch.zeros_like(like)
        first, second = (
            part.to(like.device) / (1 - beta**steps) for part, beta in zip(kept, betas, strict=True)
        )
        return first, second
