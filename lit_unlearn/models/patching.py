"""Hidden states read and exchanged: the logit lens, and activation patching.

A *position* is that of the token before a predicted one; a state at it is the output of a decoder
block. Everything here reads a model without gradient. At most `_AT_ONCE` logits are held at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.distributed.ranks import device_of
from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.forward import Inputs, evaluating, inputs_above, logits_at
from lit_unlearn.models.packing import packable, tree_arguments
from lit_unlearn.models.prefix_tree import PrefixTree, Segment
from lit_unlearn.models.tree_attention import install
from lit_unlearn.models.trunk import starting_above
from lit_unlearn.types import Tokens

__all__ = ["block_states", "lens_log_probs", "patched_log_probs", "spread_blocks"]

_AT_ONCE = 2**24
"""Most logits that are held at a time: 64 MiB in float32."""

Hook = Callable[[Tensor], Tensor | None]
"""Takes a block's output; returns what replaces it, or None."""


def spread_blocks(model: nn.Module, most: int) -> list[int]:
    """Return indices of at most so many decoder blocks at equal distances, the last among them."""
    count = len(decoder_blocks(model))
    most = min(most, count)
    return [(number + 1) * count // most - 1 for number in range(most)]


@torch.no_grad()
def block_states(model: nn.Module, tokens: Tokens, blocks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return outputs of decoder blocks at ``N`` positions, and the logits there, by one pass.

    Returns:
        ``[K, N, d]`` in the model's dtype, in the order of ``blocks``; and ``[N, V]`` float32.
    """
    found: dict[int, Tensor] = {}
    with evaluating(model), inputs_above(model, tokens, None) as inputs:

        def keep(block: int) -> Hook:
            return lambda states: found.update({block: states[inputs.rows, inputs.columns]})

        with _hooked(model, {block: keep(block) for block in blocks}):
            logits = logits_at(model, inputs).float()
    return torch.stack([found[block] for block in blocks]), logits


@torch.no_grad()
def lens_log_probs(model: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """Return log-probabilities of tokens by the logit lens, ``[K, N]`` float32, in nats.

    The model's own way from the last block's output to the logits (final norm, output head, scale
    or cap) is applied to other blocks' outputs (nostalgebraist 2020). States of another model of
    the same size are read with this model's norm and head.

    Args:
        model: The model whose norm and head are used.
        states: ``[K, N, d]`` outputs of blocks.
        targets: ``[N]`` int64: the token that each position predicts.
    """
    wanted = targets.expand(states.shape[:2]).flatten()
    flat, size = states.flatten(0, 1), _positions(model)
    parts = []
    with evaluating(model):
        for part, ids in zip(flat.split(size), wanted.split(size), strict=True):
            parts.append(_own(_head(model, part), ids))
    return torch.cat(parts).view(states.shape[:2])


@torch.no_grad()
def patched_log_probs(
    model: nn.Module,
    ids: Sequence[int],
    columns: Sequence[int],
    states: Tensor,
    blocks: Sequence[int],
    hidden_id: int | None = None,
) -> Tensor:
    """Return log-probabilities of predicted tokens after a block's output is exchanged.

    Each block gives one variant of the row, in which its output at all given positions is replaced,
    and only there; the blocks above it run on (activation patching, arXiv 2605.24614, section 3.2).

    Args:
        model: The model that runs on.
        ids: Token ids of a row, the predicted ones included.
        columns: ``S`` ascending positions of the row, each before a predicted token.
        states: ``[K, S, d]`` outputs that are put in, of a model of the same size.
        blocks: Indices of the ``K`` blocks.
        hidden_id: Token that attention must not see.

    Returns:
        ``[K, S]`` float32, in nats.
    """
    size = max(1, _positions(model) // len(columns))
    targets = torch.tensor([ids[column + 1] for column in columns], device=device_of(model))
    row, parts = ids[: columns[-1] + 1], []
    with evaluating(model):
        for start in range(0, len(blocks), size):
            chosen = blocks[start : start + size]
            inputs, places = _variants(model, row, columns, len(chosen), hidden_id)
            patches = {
                block: _replacing(places[number], states[start + number])
                for number, block in enumerate(chosen)
            }
            with _hooked(model, patches):
                logits = logits_at(model, inputs)
            parts.append(_own(logits, targets.repeat(len(chosen))).view(len(chosen), -1))
    return torch.cat(parts)


def _variants(
    model: nn.Module, row: Sequence[int], columns: Sequence[int], count: int, hidden_id: int | None
) -> tuple[Inputs, Tensor]:
    """Return inputs of so many copies of a row, and the places ``[K, S]`` of its positions.

    Places count the tokens of all copies. Where rows can be packed, the tokens before the first
    position, which all copies have in common, are read once.
    """
    device = device_of(model)
    wanted = torch.tensor(columns, device=device)
    copies = torch.arange(count, device=device)[:, None]
    if hidden_id is None and packable(model, len(row)):
        install()
        first = columns[0]
        common = [Segment(tuple(row[:first]), 0, ())] if first else []
        before = tuple(range(len(common)))
        own = [Segment(tuple(row[first:]), first, before) for _ in range(count)]
        chains = tuple((*before, len(before) + number) for number in range(count))
        tree = PrefixTree((*common, *own), chains)
        places = first + copies * (len(row) - first) + wanted - first
        return Inputs(tree_arguments(tree, device), 0, places.flatten()), places
    ids = torch.tensor(row, device=device).expand(count, -1)
    seen = torch.ones_like(ids) if hidden_id is None else (ids != hidden_id).long()
    arguments = {"input_ids": ids, "attention_mask": seen, "use_cache": False}
    rows = copies.expand(-1, len(columns)).flatten()
    return Inputs(arguments, rows, wanted.repeat(count)), copies * len(row) + wanted


def _replacing(places: Tensor, states: Tensor) -> Hook:
    def replace(output: Tensor) -> Tensor:
        changed = output.clone()
        changed.view(-1, output.shape[-1])[places] = states.to(output)
        return changed

    return replace


def _head(model: nn.Module, states: Tensor) -> Tensor:
    """Return the logits ``[N, V]`` of outputs of the last block."""
    count, device = len(states), states.device
    arguments = {
        "input_ids": torch.zeros(1, count, dtype=torch.long, device=device),
        # never read, as no block runs; it keeps transformers from making a mask of its own
        "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
        "use_cache": False,
    }
    places = torch.arange(count, device=device)
    given = states.to(next(model.parameters()).dtype)[None]
    with starting_above(model, len(decoder_blocks(model)), given):
        return logits_at(model, Inputs(arguments, 0, places))


def _own(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target under its row of logits."""
    return logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]


def _positions(model: nn.Module) -> int:
    """Return the number of positions whose logits may be held at a time."""
    config: Any = model.config
    return max(1, _AT_ONCE // int(config.get_text_config().vocab_size))


@contextmanager
def _hooked(model: nn.Module, hooks: dict[int, Hook]) -> Iterator[None]:
    """Let functions see the outputs of blocks, and replace them."""
    blocks = decoder_blocks(model)

    def behind(hook: Hook) -> Callable[..., Tensor | None]:
        def run(_: nn.Module, __: object, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor):
                raise InputError(
                    f"Suite depth needs decoder blocks that return hidden states alone. Found a "
                    f"{type(output).__name__} from a {type(model).__name__}; leave the suite out."
                )
            return hook(output)

        return run

    handles = [blocks[index].register_forward_hook(behind(h)) for index, h in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
