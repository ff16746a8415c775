"""Attention along the prefix tree of a packed row, in few calls.

A segment's tokens attend to the segments before them in their rows, and to each other. A batch has
hundreds of short segments, and a call of attention for each would cost more than its arithmetic.
Segments of similar lengths are therefore padded and share a call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lit_unlearn.models.prefix_tree import PrefixTree

__all__ = ["LAYOUT", "Group", "Layout", "attention", "install", "layout_of", "register_sdpa"]

LAYOUT = "packed_layout"
"""Name of the option by which attention gets a `Layout`."""

PAIRS_PER_CALL = 4096
"""Cost of a further call of attention, as a number of padded pairs of query and key."""


@dataclass(frozen=True)
class Group:
    """Segments of similar lengths, which share a call of attention.

    Attributes:
        queries: ``[S, Q]``, int64: places of each segment's tokens in the packed row; the last
            place is repeated up to the length of the longest segment.
        keys: ``[S, K]``, int64: the same for the tokens of a segment and its ancestors.
        mask: ``[S, 1, Q, K]``, bool: the keys that a query attends to; None for the causal mask.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Layout:
    """Groups of a packed row's segments, and the place of its ``L`` tokens in their queries."""

    groups: list[Group]
    places: Tensor


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Run the `sdpa` attention of transformers, with `packed_layout` along the prefix tree."""
    layout: Layout | None = options.pop(LAYOUT, None)
    if layout is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return found
    queries, keys, values = (states[0].transpose(0, 1).flatten(1) for states in (query, key, value))
    parts = []
    for group in layout.groups:
        q = _gathered(queries, group.queries, query.shape[1])
        k, v = (_gathered(states, group.keys, key.shape[1]) for states in (keys, values))
        out, _ = sdpa_attention_forward(module, q, k, v, group.mask, **options)
        parts.append(out.flatten(2).flatten(0, 1))
    joined = embedding(layout.places, torch.cat(parts))
    return joined.unflatten(1, (query.shape[1], -1))[None], None


def _gathered(states: Tensor, places: Tensor, heads: int) -> Tensor:
    """Return the states ``[L, H * d]`` at places ``[S, T]`` as ``[S, H, T, d]``."""
    # the backward pass of embedding is faster than that of indexing, and adds in a fixed order
    found: Tensor = embedding(places, states).unflatten(2, (heads, -1))
    return found.transpose(1, 2)


def register_sdpa(function: Callable[..., tuple[Tensor, None]]) -> None:
    """Replace transformers' `sdpa` attention, for all models.

    A new name would not work: transformers builds masks only for names that it knows, and
    checkpointed blocks look the function up again in the backward pass.
    """
    AttentionInterface.register("sdpa", function)


@cache
def install() -> None:
    """Let all models run `attention` from now on, which packed rows need."""
    register_sdpa(attention)


def layout_of(tree: PrefixTree, device: torch.device) -> Layout:
    """Group the segments of a tree, which are concatenated to the packed row."""
    starts, segments = tree.starts, tree.segments
    own = [list(range(a, b)) for a, b in pairwise(starts)]
    before = [[i for a in segment.ancestors for i in own[a]] for segment in segments]
    found, places, offset = [], [0] * tree.tokens, 0
    for members in _grouped([(len(b), len(o)) for b, o in zip(before, own, strict=True)]):
        queries = _padded([own[s] for s in members])
        keys = _padded([before[s] + own[s] for s in members])
        mask = None
        if before[members[0]]:
            first = torch.tensor([len(before[s]) for s in members])
            last = first[:, None] + torch.arange(queries.shape[1])
            mask = (torch.arange(keys.shape[1]) <= last[:, :, None])[:, None].to(device)
        found.append(Group(queries.to(device), keys.to(device), mask))
        for row, segment in enumerate(members):
            for column, place in enumerate(own[segment]):
                places[place] = offset + row * queries.shape[1] + column
        offset += queries.numel()
    return Layout(found, torch.tensor(places, device=device))


def _grouped(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Group segments while padding costs less than calls; sizes are (tokens before, tokens)."""
    groups: list[list[int]] = []
    area = longest = widest = 0
    for segment in sorted(range(len(sizes)), key=lambda s: (sizes[s][0] > 0, sizes[s][::-1])):
        before, own = sizes[segment]
        alone = own * (before + own)
        high, wide = max(longest, own), max(widest, before + own)
        if (
            groups
            and (sizes[groups[-1][0]][0] > 0) == (before > 0)
            and high * wide * (len(groups[-1]) + 1) <= area + alone + PAIRS_PER_CALL
        ):
            groups[-1].append(segment)
            longest, widest, area = high, wide, high * wide * len(groups[-1])
        else:
            groups.append([segment])
            longest, widest, area = own, before + own, alone
    return groups


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows as ``[S, T]``, padded with their last number."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in rows])
