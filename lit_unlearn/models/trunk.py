"""The trunk: the decoder blocks below the first trained one.

If only upper blocks are trained, the trunk's output depends on the token sequence alone. It can be
computed once (`trunk_outputs`) and given to forward passes that start above the trunk
(`starting_above`). Losses and gradients equal those of full passes, up to rounding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.packing import draws_at_random, packed
from lit_unlearn.models.prefix_tree import PrefixTree
from lit_unlearn.types import Tokens
from lit_unlearn.utils.digests import text_digest

__all__ = ["segment_states", "starting_above", "trunk_digest", "trunk_height", "trunk_outputs"]

_SAME_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer dtype by bytes of an element; integer sums are exact in any order."""


def trunk_height(model: nn.Module) -> tuple[int, str]:
    """Return the number of blocks below the first trained one, and the reason if it is 0."""
    try:
        blocks = decoder_blocks(model)
    except InputError:
        return 0, "the model has no list of decoder blocks"
    inside = {id(p): index for index, b in enumerate(blocks) for p in b.parameters()}
    height, above_embedding = len(blocks), False
    for name, parameter in model.named_parameters():  # in the order in which modules are made
        above_embedding = above_embedding or id(parameter) in inside
        if parameter.requires_grad:
            if not above_embedding:
                return 0, f"{name} is trained, which lies below the decoder blocks"
            height = min(height, inside.get(id(parameter), height))
    if height == 0:
        return 0, "the first decoder block is trained"
    if any(draws_at_random(block) for block in blocks[:height]):
        return 0, "dropout is active below the first trained decoder block"
    return height, ""


def trunk_digest(model: nn.Module, height: int) -> str:
    """Return a digest of the weights of the trunk (``height`` blocks) and of the embedding."""
    blocks = decoder_blocks(model)
    inside = {id(p) for block in blocks[:height] for p in block.parameters()}
    behind = {id(p) for block in blocks[height:] for p in block.parameters()}
    sums, above_embedding = [], False
    for name, parameter in model.named_parameters():  # in the order in which modules are made
        above_embedding = above_embedding or id(parameter) in inside | behind
        if id(parameter) in inside or not above_embedding:
            bits = parameter.detach().contiguous().view(_SAME_BITS[parameter.itemsize])
            sums.append((name, int(bits.sum(dtype=torch.int64))))
    return text_digest(repr(sums))


@torch.no_grad()
def trunk_outputs(model: nn.Module, height: int, tokens: Tokens) -> list[Tensor]:
    """Run only the trunk (``height`` blocks) on ``B`` sequences, each up to its last prediction.

    Returns:
        ``B`` times ``[T, d]``: outputs of the trunk's last block, without padding.
    """
    dense = packed(model, tokens, always=True)
    if dense is None:
        raise InputError("Parameter `cache_trunk` should be false for this model: see `packable`.")
    blocks = decoder_blocks(model)
    caught: list[Any] = []
    handle = blocks[height - 1].register_forward_hook(lambda *given: caught.append(given[2]))
    try:
        with _passing_on(blocks[height:]):
            model(**dense.arguments, logits_to_keep=1)
    finally:
        handle.remove()
    if not isinstance(caught[0], Tensor):
        raise InputError("Parameter `cache_trunk` should be false: the blocks return tuples.")
    starts = dense.tree.starts
    return [
        torch.cat([caught[0][0, starts[s] : starts[s + 1]] for s in chain])[: len(row)]
        for row, chain in zip(dense.rows, dense.tree.chains, strict=True)
    ]


@contextmanager
def starting_above(model: nn.Module, height: int, states: Tensor) -> Iterator[None]:
    """Let forward passes start above the trunk, with the states ``[1, L, d]`` that leave it."""
    blocks = decoder_blocks(model)
    with _passing_on(blocks[: height - 1]), _passing_on(blocks[height - 1 : height], states):
        yield


@contextmanager
def _passing_on(blocks: Sequence[Any], states: Tensor | None = None) -> Iterator[None]:
    """Let blocks return ``states``, or their input if that is None, without computing."""

    def pass_on(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states if states is None else states

    for block in blocks:
        block.forward = pass_on
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def segment_states(tree: PrefixTree, rows: Sequence[Tensor]) -> Tensor:
    """Gather the hidden states of a tree's segments, ``[1, L, d]``, from those of its rows."""
    longest_last = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    owner = {segment: row for row in longest_last for segment in tree.chains[row]}
    parts = (
        rows[owner[index]][segment.first : segment.first + len(segment.ids)]
        for index, segment in enumerate(tree.segments)
    )
    return torch.cat([*parts])[None]
