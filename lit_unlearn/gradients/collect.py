"""One gradient per objective: taken from the parameters, added up, combined, written back.

A `Gradient` is the list of what backward left in ``parameter.grad``, in the order of the trainable
parameters. Nothing here copies what it does not have to: a gradient is taken by swapping a pointer.
Sharded parameters (DTensor) need no special case, since every operation is element by element.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_unlearn.utils.library_internals import scale_

Gradient = list[Tensor | None]
"""One tensor per trainable parameter; None is zero everywhere (the loss does not touch it)."""


class Sum(NamedTuple):
    """A running sum of gradients, and the factor with which the next one enters it."""

    gradient: Gradient
    factor: float


# By names, since gradients know parameters and no model (compare models.blocks.decoder_blocks).
_BLOCK = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")
_OUTSIDE = (
    (re.compile(r"(?:^|\.)(?:lm_head|embed_out|output(?:_layer)?)\."), "head"),
    (re.compile(r"(?:^|\.)(?:\w*embed\w*|wte|wpe)\."), "embedding"),
    (re.compile(r"(?:^|\.)(?:ln_f|norm_f|\w*norm)\."), "head"),
)
"""What a name outside the blocks says, in the order in which it is asked."""
_PARTS = ("embedding", "block", "head", "other")


def take_gradient(parameters: Iterable[Tensor]) -> Gradient:
    """Takes what backward left in the parameters, and leaves None there.

    Args:
        parameters: The trainable parameters, always in the same order.

    Returns:
        The tensors that were ``parameter.grad``, not copies of them.
    """
    taken: Gradient = []
    for parameter in parameters:
        taken.append(parameter.grad)
        parameter.grad = None
    return taken


def write_gradient(parameters: Sequence[Tensor], gradient: Gradient) -> None:
    """Puts a gradient where the optimizer reads it; None leaves a parameter out of the step.

    Args:
        parameters: The trainable parameters, in the order in which the gradient was taken.
        gradient: One tensor or None per parameter.

    Raises:
        ValueError: The numbers of parameters and tensors differ.
    """
    _check_lengths("gradient", len(gradient), len(parameters))
    for parameter, tensor in zip(parameters, gradient, strict=True):
        parameter.grad = tensor


@torch.no_grad()
def add_to(total: Gradient, other: Gradient, factor: float = 1.0) -> None:
    """Adds a multiple of a gradient to a running sum, in place and in one pass.

    Args:
        total: The running sum; ``[None] * len(parameters)`` to begin with.
        other: The gradient to add. It is used up: where the sum was None it becomes the sum's
            tensor, and so changes with the next addition.
        factor: What it is multiplied by.

    Raises:
        ValueError: The two have different lengths.
    """
    _check_lengths("other", len(other), len(total))
    for index, tensor in enumerate(other):
        present = total[index]
        if present is None:
            total[index] = tensor if tensor is None or factor == 1 else tensor.mul_(factor)
        elif tensor is not None:
            present.add_(tensor, alpha=factor)


@torch.no_grad()
def scale(gradient: Gradient, factor: float) -> Gradient:
    """Multiplies a gradient by a factor, in place, and returns it; None stays None."""
    present = [part for part in gradient if part is not None]
    if present:  # torch refuses an empty list
        scale_(present, factor)
    return gradient


def combine(gradients: Sequence[Gradient], weights: Tensor) -> Gradient:
    """The update ``sum_i weights[i] * gradients[i]``.

    Half-precision gradients are added up in float32 and rounded once. Non-finite values come
    through, also under the weight 0; the step checks.

    Args:
        gradients: ``M`` gradients over the same parameters; they are left as they are.
        weights: ``[M]``, any float type and device.

    Returns:
        A new gradient, of the types of the old ones; None where all of them are None.

    Raises:
        ValueError: There are not as many weights as gradients, or the gradients differ in length.
    """
    _check_lengths("weights", weights.numel(), len(gradients))
    for gradient in gradients:
        _check_lengths("gradients", len(gradient), len(gradients[0]))
    factors: list[float] = weights.tolist()
    return [_weighted_sum(tensors, factors) for tensors in zip(*gradients, strict=True)]


def _weighted_sum(tensors: Sequence[Tensor | None], factors: Sequence[float]) -> Tensor | None:
    total: Tensor | None = None
    dtype = torch.float32
    for tensor, factor in zip(tensors, factors, strict=True):
        if tensor is None:
            continue
        dtype = tensor.dtype
        wide = tensor.float() if dtype.itemsize < 4 else tensor
        total = wide * factor if total is None else total.add_(wide, alpha=factor)
    return None if total is None else total.to(dtype)


def layer_groups(named_parameters: Iterable[tuple[str, Tensor]]) -> dict[str, list[int]]:
    """Sorts the parameters of a causal LM by depth, for the heat map of cosines.

    Read off the names that Hugging Face models use (``model.layers.7.``, ``transformer.h.7.``,
    ``gpt_neox.layers.7.``, ``transformer.blocks.7.``), below any prefix that PEFT, DDP or
    ``torch.compile`` puts in front:

    - ``embedding``: token and position embeddings, and a norm that belongs to them. An output head
      tied to the token embedding is the same tensor, which ``named_parameters`` lists once, and
      under the embedding's name: its gradient counts here.
    - ``block.00``, ``block.01``, ...: the decoder blocks, all with as many digits as the last one
      needs, at least two.
    - ``head``: what follows the last block: the final norm and an output head of its own.
    - ``other``: any name that fits none of these.

    Args:
        named_parameters: Name and tensor of the trainable parameters, in the gradients' order.

    Returns:
        Indices into that order by group, in the order above; groups without parameters are left
        out, and each parameter is in exactly one.
    """
    indices: dict[tuple[int, int], list[int]] = {}
    for index, (name, _) in enumerate(named_parameters):
        indices.setdefault(_depth(name), []).append(index)
    digits = max(2, len(str(max((block for _, block in indices), default=0))))
    return {
        f"block.{block:0{digits}d}" if _PARTS[part] == "block" else _PARTS[part]: found
        for (part, block), found in sorted(indices.items())
    }


def _depth(name: str) -> tuple[int, int]:
    """Sort key of a parameter name: part of the model, and the number of the block within it."""
    block = _BLOCK.search(name)
    if block is not None:
        return _PARTS.index("block"), int(block.group(1))
    parts = (part for pattern, part in _OUTSIDE if pattern.search(name))
    return _PARTS.index(next(parts, "other")), 0


def _check_lengths(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"Parameter `{name}` should have {expected} entries. Found {found}. Take and write "
            "gradients with one and the same list of trainable parameters."
        )
