"""Compiled decoder blocks (`torch.compile`), for training."""

from typing import Any

import torch
from torch import nn

from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.tree_attention import attention, install, register_sdpa

__all__ = ["compile_blocks"]


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Let a model's decoder blocks run compiled in training mode, in place.

    Names of parameters do not change, and copies of the model are compiled too. In evaluation
    mode, and therefore in generation, blocks run as before. Attention and hooks are not compiled,
    so a batch of another size or another hook causes no recompilation. The model must not be
    sharded yet.
    """
    install()  # must precede the next line, whose function it would replace
    register_sdpa(torch.compiler.disable(attention))
    made: dict[type, type] = {}
    for block in decoder_blocks(model):
        kind: Any = type(block)
        if kind not in made:
            made[kind] = _compiled(kind, backend)
        block.__class__ = made[kind]


def _compiled(kind: Any, backend: str) -> type:
    """Return a subclass of a block's class whose forward pass is compiled in training mode."""
    plain: Any = kind.forward
    compiled: Any = torch.compile(plain, dynamic=True, backend=backend)

    class Compiled(kind):  # type: ignore[misc]
        def forward(self, *inputs: Any, **options: Any) -> Any:
            return (compiled if self.training else plain)(self, *inputs, **options)

    Compiled.__name__ = Compiled.__qualname__ = kind.__name__
    return Compiled
