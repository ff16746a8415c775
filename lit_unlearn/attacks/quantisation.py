"""Weight quantisation as an attack: it undoes changes of less than half a step.

Zhang et al. 2024, "Catastrophic Failure of LLM Unlearning via Quantization" (arXiv 2410.16454).
Unlearning with a small learning rate changes each weight little, and rounding to a coarse grid can
restore the old value. Their code loads models with bitsandbytes. Here the grid is integers times a
scale for each group of weights, which runs on any device.
"""

import torch
from torch import Tensor, nn

from lit_unlearn.attacks.copies import linear_copy, weight_by_output
from lit_unlearn.errors import check_number

__all__ = ["check_grid", "quantisation_step", "quantised_copy", "round_to_nearest"]


def quantisation_step(weight: Tensor, bits: int) -> Tensor:
    """Return the distance between neighbouring grid values, ``max |w| / (2^(bits - 1) - 1)``.

    Groups of weights that share a scale are ``[..., G]``; the steps are ``[..., 1]`` float32.
    """
    largest: Tensor = weight.float().abs().amax(-1, keepdim=True)
    return largest / float(2 ** (bits - 1) - 1)


def round_to_nearest(weight: Tensor, bits: int, group_size: int | None = None) -> Tensor:
    """Return weights after symmetric absmax quantisation, in their dtype.

    ``w' = s round(w / s)`` with ``s`` of `quantisation_step`: integers from ``-(2^(bits-1) - 1)``
    to ``2^(bits-1) - 1``, and the largest weight of a group is unchanged. Hence ``|w' - w| <= s /
    2`` for every weight, up to the rounding of the tensor's dtype.

    Args:
        weight: ``[R, C]``: one row per output.
        bits: Bits of each weight, 2 to 16.
        group_size: Number of neighbouring weights of a row that share a scale; the last group of a
            row may be smaller. None for the whole row.
    """
    check_grid(bits, group_size)
    groups = weight.split(group_size or weight.shape[-1], dim=-1)
    rounded = []
    for group in groups:
        step = quantisation_step(group, bits)
        safe = torch.where(step > 0, step, torch.ones_like(step))  # a group of zeros stays zero
        rounded.append(((group.float() / safe).round() * safe).to(group.dtype))
    return torch.cat(rounded, dim=-1)


def quantised_copy(
    model: nn.Module, bits: int, group_size: int | None = None, embeddings: bool = False
) -> nn.Module:
    """Return a copy of a model whose linear layers have rounded weights; see `round_to_nearest`.

    Biases, norms and weights outside linear layers (fused experts) keep their values. Adapters of
    peft are merged first, as in deployment. With `embeddings`, token embeddings and the output head
    are rounded too.

    Raises:
        InputError: The model has no linear layers, or `bits` or `group_size` is out of range.
    """
    check_grid(bits, group_size)
    changed, layers = linear_copy(model, embeddings=embeddings)
    for layer in layers:
        weight = weight_by_output(layer)
        weight.copy_(round_to_nearest(weight, bits, group_size))
    return changed


def check_grid(bits: int, group_size: int | None) -> None:
    """Check that bits and group size are in range."""
    check_number("bits", bits, 2, 16)
    check_number("group_size", group_size, 1)
