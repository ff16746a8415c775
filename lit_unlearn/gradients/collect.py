"""Operations on gradients: take them from the parameters, add, combine, and write them back.

A `Gradient` is the list of the tensors ``parameter.grad`` after a backward pass, in the order of
the trainable parameters. It is taken without a copy. Sharded parameters (DTensor) need no special
case, since every operation is element by element.
"""

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lit_unlearn.utils.library_internals import scale_

__all__ = ["Gradient"]
__all__ += ["add_to", "check_lengths", "combine", "layer_groups", "scale", "take_gradient"]
__all__ += ["write_gradient"]

Gradient = list[Tensor | None]
"""One tensor per trainable parameter; None is zero everywhere (the loss does not depend on it)."""


# By names, since gradients know parameters and no model (compare models.blocks.decoder_blocks).
_BLOCK = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")
_OUTSIDE = (
    (re.compile(r"(?:^|\.)(?:lm_head|embed_out|output(?:_layer)?)\."), "head"),
    (re.compile(r"(?:^|\.)(?:\w*embed\w*|wte|wpe)\."), "embedding"),
    (re.compile(r"(?:^|\.)(?:ln_f|norm_f|\w*norm)\."), "head"),
)
"""Patterns of names outside the blocks with the part of the model, in order of precedence."""
_PARTS = ("embedding", "block", "head", "other")


def take_gradient(parameters: Iterable[Tensor]) -> Gradient:
    """Return the tensors ``parameter.grad``, not copies of them, and set the attribute to None."""
    taken: Gradient = []
    for parameter in parameters:
        taken.append(parameter.grad)
        parameter.grad = None
    return taken


def write_gradient(parameters: Sequence[Tensor], gradient: Gradient) -> None:
    """Set ``parameter.grad``, which the optimizer reads; None leaves a parameter out."""
    check_lengths("gradient", len(gradient), len(parameters))
    for parameter, tensor in zip(parameters, gradient, strict=True):
        parameter.grad = tensor


@torch.no_grad()
def add_to(total: Gradient, other: Gradient, factor: float = 1.0) -> None:
    """Add a multiple of a gradient to a running sum, in place and in one pass.

    The sum starts as ``[None] * len(parameters)``. Do not use the gradient afterwards: where the
    sum was None, it takes over the gradient's tensor, which the next addition changes.
    """
    check_lengths("other", len(other), len(total))
    for index, tensor in enumerate(other):
        present = total[index]
        if present is None:
            total[index] = tensor if tensor is None or factor == 1 else tensor.mul_(factor)
        elif tensor is not None:
            present.add_(tensor, alpha=factor)


@torch.no_grad()
def scale(gradient: Gradient, factor: float) -> Gradient:
    """Multiply a gradient by a factor, in place, and return it; None stays None."""
    present = [part for part in gradient if part is not None]
    if present:  # torch refuses an empty list
        scale_(present, factor)
    return gradient


def combine(gradients: Sequence[Gradient], weights: Tensor) -> Gradient:
    """Return the update ``sum_i weights[i] * gradients[i]``, a new gradient of the same dtypes.

    Half-precision gradients are added up in float32 and rounded once. Non-finite values remain,
    even with weight 0; the step checks for them. An entry is None if it is None in all gradients.
    """
    check_lengths("weights", weights.numel(), len(gradients))
    for gradient in gradients:
        check_lengths("gradients", len(gradient), len(gradients[0]))
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
    """Group the parameters of a causal LM by depth, for the heat map of cosines.

    The groups follow from the names of Hugging Face models (``model.layers.7.``,
    ``transformer.h.7.``, ``gpt_neox.layers.7.``, ``transformer.blocks.7.``), after any prefix of
    PEFT, DDP or ``torch.compile``:

    - ``embedding``: token and position embeddings and their norm. An output head that is tied to
    the token embedding is the same tensor, which ``named_parameters`` lists once under the
    embedding's name: its gradient counts here.
    - ``block.00``, ``block.01``, ...: the decoder blocks, with at least two digits.
    - ``head``: the final norm, and an output head that is not tied.
    - ``other``: every other name.

    Returns:
        Indices into the order of the parameters by group, in the order above, without empty groups;
            each parameter is in exactly one group.
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
    """Return the sort key of a parameter name: part of the model, number of the block."""
    block = _BLOCK.search(name)
    if block is not None:
        return _PARTS.index("block"), int(block.group(1))
    parts = (part for pattern, part in _OUTSIDE if pattern.search(name))
    return _PARTS.index(next(parts, "other")), 0


def check_lengths(name: str, found: int, expected: int) -> None:
    """Check that a list has an entry for each parameter, or raise a `ValueError`."""
    if found != expected:
        raise ValueError(
            f"Parameter `{name}` should have {expected} entries. Found {found}. Take and write "
            "gradients with one and the same list of trainable parameters."
        )
