"""The trained weights, moved for a while along a gradient; for sharpness-aware gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.gradients.gramian import gramian


@contextmanager
def perturbed(parameters: Sequence[Tensor], gradient: Gradient, radius: float) -> Iterator[None]:
    """Inside, the weights stand at ``theta + radius g / |g|``; afterwards at theta, bit by bit.

    The norm runs over all parameters and, where these are sharded (DTensor), over all processes, so
    that every process has to enter. Along a zero gradient nothing moves. The gradient is freed
    tensor by tensor as a copy of the weights is made, so that little more memory is needed than
    it had taken. Copies of the weights that autocast keeps in another number format are given up,
    before and after: it would go on reading them.

    Args:
        parameters: The trainable parameters, in the order in which the gradient was taken.
        gradient: One tensor or None per parameter; all None afterwards.
        radius: 2-norm of the move.

    Raises:
        ValueError: The numbers of parameters and tensors differ.
    """
    if len(gradient) != len(parameters):
        raise ValueError(
            f"Parameter `gradient` should have {len(parameters)} entries. Found {len(gradient)}. "
            "Take it with the same list of trainable parameters."
        )
    length = float(gramian([gradient]).whole.sqrt())
    step = 0.0 if length == 0 else radius / length
    kept: list[Tensor | None] = [None] * len(parameters)
    try:
        with torch.no_grad():
            for index, parameter in enumerate(parameters):
                along, gradient[index] = gradient[index], None
                if along is not None:
                    kept[index] = parameter.detach().clone()
                    parameter.add_(along, alpha=step)
        torch.clear_autocast_cache()
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                if before is not None:
                    parameter.copy_(before)
        torch.clear_autocast_cache()
