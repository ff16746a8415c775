"""Temporary move of trained weights along a gradient, for sharpness-aware gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lit_unlearn.gradients.collect import Gradient, check_lengths
from lit_unlearn.gradients.gramian import gramian

__all__ = ["perturbed"]


@contextmanager
def perturbed(parameters: Sequence[Tensor], gradient: Gradient, radius: float) -> Iterator[None]:
    """Move the weights to ``theta + radius g / |g|`` inside the context; restore theta exactly.

    The norm is over all parameters and, if these are sharded (DTensor), over all processes, so
    every process must enter. A zero gradient moves nothing. Each tensor of the gradient is set to
    None when its weight is copied, so that little extra memory is needed. The cache of autocast,
    which has copies of the weights in another dtype, is cleared before and after.
    """
    check_lengths("gradient", len(gradient), len(parameters))
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
