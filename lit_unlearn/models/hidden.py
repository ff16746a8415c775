"""Hidden states at answer positions, and forward passes with hidden states changed on the way.

A layer is named by its relative depth, so that a setting means the same for every model: depth d of
a model with L decoder blocks is the output of block round(d L), at least the first; 1 is the last.
Hooks leave the model's own forward in charge, as in `reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import ModelReader, answer_logits
from lit_unlearn.types import Tokens

Change = Callable[[Tensor], Tensor]
"""Takes the hidden states ``[B, T, d]`` of a block and returns what goes on instead of them."""


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """The decoder blocks in order, found by their number, below any adapters.

    Raises:
        InputError: No list of modules has as many entries as the model's config has layers.
    """
    config: Any = getattr(model, "config", None)
    count = getattr(config.get_text_config(), "num_hidden_layers", 0) if config is not None else 0
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise InputError(
        f"Parameter `model.student.path` should name a model with a list of its {count} decoder "
        f"blocks, for objectives on hidden states. Found a {type(model).__name__} without one; "
        "use an objective on logits."
    )


def block_index(depth: float, count: int) -> int:
    """Index of the block whose output lies at a relative depth.

    Args:
        depth: In (0, 1].
        count: Number of blocks.

    Raises:
        InputError: A depth outside (0, 1].
    """
    if not 0 < depth <= 1:
        raise InputError(
            "Parameter `depth` should lie above 0 and be at most 1, the last decoder block. "
            f"Found {depth}; divide the block's number by the number of blocks."
        )
    return max(1, round(depth * count)) - 1


def hidden_states(
    model: nn.Module, tokens: Tokens, depths: Sequence[float] | None = None
) -> Tensor:
    """Outputs of decoder blocks at the given positions.

    Args:
        model: A causal language model of transformers, possibly with adapters or sharded.
        tokens: ``B`` sequences and ``N`` positions in them.
        depths: ``D`` relative depths in (0, 1]; None takes every block.

    Returns:
        ``[D, N, d]`` float32, in the order of ``depths`` and ``tokens.rows``.

    Raises:
        InputError: A depth outside (0, 1], or a model without decoder blocks.
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

    handles = [blocks[index].register_forward_hook(keep(index)) for index in set(wanted)]
    try:
        answer_logits(model, tokens, pack=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([caught[index][tokens.rows, tokens.columns].float() for index in wanted])


def steered_logits(model: nn.Module, tokens: Tokens, depth: float, change: Change) -> Tensor:
    """Logits at the given positions, with the output of one decoder block changed on the way.

    Args:
        model: A causal language model of transformers.
        tokens: ``B`` sequences and ``N`` positions in them.
        depth: Relative depth of the block, in (0, 1].
        change: Gets the block's output ``[B, T, d]``, returns its replacement.

    Returns:
        ``[N, V]`` float32.

    Raises:
        InputError: A depth outside (0, 1], or a model without decoder blocks.
    """

    def hook(_: nn.Module, __: object, output: Any) -> Any:
        changed = change(_states(output))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    blocks = decoder_blocks(model)
    handle = blocks[block_index(depth, len(blocks))].register_forward_hook(hook)
    try:
        return answer_logits(model, tokens, pack=False)
    finally:
        handle.remove()


def _states(output: Any) -> Tensor:
    """A block's hidden states: its output, or the first entry where that is a tuple."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


class HiddenReader(ModelReader):
    """Reads a model that is being trained: logits, hidden states, and logits of a steered pass."""

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """Return ``[D, N, d]`` hidden states with gradient; see `hidden_states`."""
        return hidden_states(self.model, tokens, depths)

    def steered_logits(self, tokens: Tokens, depth: float, change: Change) -> Tensor:
        """Return ``[N, V]`` logits with gradient of a steered pass; see `steered_logits`."""
        return steered_logits(self.model, tokens, depth, change)
