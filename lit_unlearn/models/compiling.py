"""Compiled decoder blocks (`torch.compile`), for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from lit_unlearn.models import packing
from lit_unlearn.models.blocks import decoder_blocks


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Let a model's decoder blocks run compiled in training mode, in place.

    Names of parameters stay as they are, and copies of the model are compiled too. In evaluation
    mode, and so in generation, blocks run as before. Attention stays outside, as it runs row by
    row, and so do hooks: neither another number of rows or tokens nor another hook compiles anew.

    Args:
        model: A causal language model of transformers, possibly with adapters, not yet sharded.
        backend: Of `torch.compile`.

    Raises:
        InputError: The model has no list of decoder blocks.
    """
    AttentionInterface.register("sdpa", torch.compiler.disable(_attention))
    made: dict[type, type] = {}
    for block in decoder_blocks(model):
        kind: Any = type(block)
        if kind not in made:
            made[kind] = _compiled(kind, backend)
        block.__class__ = made[kind]


class _Unseen:
    """Holds lengths of rows, which the compiler would take for constants."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths


def _attention(*inputs: Any, **options: Any) -> tuple[Tensor, None]:
    """`packing.attention`, with lengths that may be hidden from the compiler."""
    given = options.get(packing.LENGTHS)
    if isinstance(given, _Unseen):
        options[packing.LENGTHS] = given.lengths
    return packing.attention(*inputs, **options)


def _compiled(kind: Any, backend: str) -> type:
    """A class of blocks: the same, but for its forward pass."""
    plain: Any = kind.forward
    compiled: Any = torch.compile(plain, dynamic=True, backend=backend)

    class Compiled(kind):  # type: ignore[misc]
        def forward(self, *inputs: Any, **options: Any) -> Any:
            """The compiled pass in training mode, else the plain one."""
            if not self.training:
                return plain(self, *inputs, **options)
            if packing.LENGTHS in options:
                options[packing.LENGTHS] = _Unseen(options[packing.LENGTHS])
            return compiled(self, *inputs, **options)

    Compiled.__name__ = Compiled.__qualname__ = kind.__name__
    return Compiled
