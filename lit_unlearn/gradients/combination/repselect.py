"""RepSelect: what the gradient of a matrix shares with much else is taken out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.gradients.collect import Gradient, add_to
from lit_unlearn.gradients.combination.base import TwoSidedCombination
from lit_unlearn.gradients.weighting.two_sided import check_named

__all__ = ["RepSelect", "collapsed"]

_NOISE = 1e-6
"""Singular values below this share of the largest one are rounding errors."""


@torch.no_grad()
def collapsed(gradient: Tensor, components: int) -> Tensor:
    """Return a gradient, ``[m, n]``, with its largest singular values collapsed.

    Sondej, Yang and Mahdi 2026 (RepSelect), arXiv 2606.17168; as `_collapse` (soft, both sides) of
    filyp/RepSelect@5955f30. With ``G = sum_i s_i u_i v_i^T`` and s the smallest of its k largest
    singular values, the components of these k are divided by ``s_i / s``, once on the side of the
    inputs and once on that of the outputs. So ``s_i`` becomes ``s^2 / s_i``, and the others stay.

    A gradient of lower rank than ``components`` counts with the components that it has. The work is
    one eigenvalue decomposition of the size of the shorter side.
    """
    wide = gradient.shape[0] < gradient.shape[1]
    tall: Tensor = (gradient.mT if wide else gradient).float()
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(tall.double().mT @ tall.double())
    values = values.clamp(min=0)  # ascending squares of the singular values
    count = min(components, int((values > values[-1] * _NOISE**2).sum()))
    if not count:
        return gradient.clone()
    values, vectors = values[-count:], vectors[:, -count:].to(tall.dtype)
    factors = (values[0] / values - 1).to(tall.dtype)  # s^2 / s_i^2 - 1
    filtered = tall + (tall @ vectors * factors) @ vectors.mT
    return (filtered.mT if wide else filtered).to(gradient.dtype)


@dataclass
class RepSelect(TwoSidedCombination):
    """Take out of the forget gradient of each matrix the directions that much else shares.

    Sondej, Yang and Mahdi 2026, arXiv 2606.17168: unlearning that moves the main directions of
    activations and gradients harms other skills, and a few steps of training undo it. The largest
    singular values s_i of each matrix of g_f become ``s^2 / s_i``, with s the smallest of them (see
    `collapsed`); g_r, the sum of the retain side, is added unchanged. Vectors are not
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
