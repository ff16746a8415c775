"""Hidden states at answer positions, and forward passes that change hidden states.

A block is named by its relative depth, see `lit_unlearn.models.blocks`. Hooks read and change the
blocks' outputs, so that the model's own forward stays in charge.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.models.blocks import block_index, decoder_blocks
from lit_unlearn.models.forward import StoredTrunk, answer_logits
from lit_unlearn.types import Tokens

__all__ = ["Change", "ModelReader", "hidden_states", "steered_logits"]

Change = Callable[[Tensor], Tensor]
"""Function from the hidden states ``[B, T, d]`` of a block to their replacement."""


def hidden_states(
    model: nn.Module, tokens: Tokens, depths: Sequence[float] | None = None
) -> Tensor:
    """Return outputs of decoder blocks at ``N`` positions: ``[D, N, d]`` float32.

    ``D`` follows ``depths``, which are relative, in (0, 1]; None reads every block. ``N`` follows
    ``tokens.rows``.
    """
    blocks = decoder_blocks(model)
    indices = range(len(blocks))
    wanted = list(indices) if depths is None else [block_index(d, len(blocks)) for d in depths]
    caught: dict[int, Tensor] = {}

    def keep(index: int) -> Callable[..., None]:
        # no arithmetic in the hook: under activation checkpointing it runs only the first time
        def hook(_: nn.Module, __: object, output: Any) -> None:
            caught[index] = _states(output)

        return hook

    _hooked(model, tokens, {index: keep(index) for index in wanted})
    return torch.stack([caught[index][tokens.rows, tokens.columns].float() for index in wanted])


def steered_logits(model: nn.Module, tokens: Tokens, depth: float, change: Change) -> Tensor:
    """Return ``[N, V]`` float32 logits of a pass that changes one decoder block's output.

    ``change`` gets the output ``[B, T, d]`` of the block at a relative depth in (0, 1], and returns
    its replacement.
    """

    def hook(_: nn.Module, __: object, output: Any) -> Any:
        changed = change(_states(output))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return _hooked(model, tokens, {block_index(depth, len(decoder_blocks(model))): hook})


def _hooked(model: nn.Module, tokens: Tokens, hooks: dict[int, Callable[..., Any]]) -> Tensor:
    """Return the logits of a pass with forward hooks on blocks, by index."""
    blocks = decoder_blocks(model)
    handles = [blocks[index].register_forward_hook(hook) for index, hook in hooks.items()]
    try:
        return answer_logits(model, tokens, pack=False)
    finally:
        for handle in handles:
            handle.remove()


def _states(output: Any) -> Tensor:
    """Return a block's hidden states: its output, or the first entry if that is a tuple."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


class ModelReader:
    """Reader of the model in training: gradients flow, and its mode is unchanged.

    Passes start above the ``trunk`` if its outputs are stored.
    """

    def __init__(self, model: nn.Module, trunk: StoredTrunk | None = None) -> None:
        self.model, self.trunk = model, trunk

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits with gradient; see `answer_logits`."""
        return answer_logits(self.model, tokens, trunk=self.trunk)

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """Return ``[D, N, d]`` hidden states with gradient; see `hidden_states`."""
        return hidden_states(self.model, tokens, depths)

    def steered_logits(self, tokens: Tokens, depth: float, change: Change) -> Tensor:
        """Return ``[N, V]`` logits with gradient of a steered pass; see `steered_logits`."""
        return steered_logits(self.model, tokens, depth, change)
