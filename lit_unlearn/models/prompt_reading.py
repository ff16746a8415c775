"""Keys and values of prompts, from a pass that reads other rows too.

Replies to prompts and the likelihood of given answers need the same passes over the prompts. One
packed pass (`packing`) reads the prefix tree of both, and generation starts from the keys and
values of the prompts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from lit_unlearn.distributed.ranks import device_of
from lit_unlearn.models.forward import Inputs, logits_at
from lit_unlearn.models.packing import packable, packed
from lit_unlearn.models.prefix_tree import PrefixTree
from lit_unlearn.types import Tokens

__all__ = ["KeyValues", "cache_arguments", "can_continue", "left_padded", "logits_and_prompts"]

KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values ``[T, H, d]`` of one sequence, for each attention layer."""


def can_continue(model: nn.Module, longest: int) -> bool:
    """Return whether generation can start from keys and values of a packed pass.

    ``longest`` is the number of tokens of the longest prompt with its reply.
    """
    # a hook that gets the inputs may run a second model on them, whose keys would be lost
    return packable(model, longest) and not model._forward_hooks_with_kwargs


def logits_and_prompts(
    model: nn.Module, tokens: Tokens, prompts: int
) -> tuple[Tensor, list[KeyValues]]:
    """Read rows in one pass; the last ``prompts`` rows are prompts.

    Leave out the last token of each prompt, which generation reads. Rows are read to their ends;
    `can_continue` must hold for the model.

    Returns:
        ``[N, V]`` float32 logits, and keys and values of each prompt.
    """
    dense = packed(model, tokens, always=True, whole=True)
    if dense is None:
        raise ValueError("Parameter `model` should satisfy `can_continue`. Found that it does not.")
    cache = DynamicCache()
    arguments = {**dense.arguments, "use_cache": True, "past_key_values": cache}
    logits = logits_at(model, Inputs(arguments, 0, dense.places)).float()
    rows = range(len(dense.rows) - prompts, len(dense.rows))
    where = [_places(dense.tree, row)[: len(dense.rows[row])] for row in rows]
    places = [torch.tensor(each, device=logits.device) for each in where]
    found: list[KeyValues] = [[] for _ in rows]
    layers: list[Any] = cache.layers
    for layer in layers:
        keys, values = (states[0].transpose(0, 1) for states in (layer.keys, layer.values))
        for own, at in zip(found, places, strict=True):
            own.append((keys[at], values[at]))
        layer.keys = layer.values = None  # one layer's copies at a time
    return logits, found


def _places(tree: PrefixTree, row: int) -> list[int]:
    """Return the indices of a row's tokens among those of all segments."""
    starts = tree.starts
    return [at for each in tree.chains[row] for at in range(starts[each], starts[each + 1])]


def cache_arguments(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    room: int,
    read: Mapping[tuple[int, ...], KeyValues] | None,
) -> dict[str, Any]:
    """Return the arguments that let ``generate`` start from keys and values of a batch's prompts.

    They are empty if the model cannot use them. Replies have at most ``room`` tokens; ``read``
    has keys and values that are known already, by prompt.
    """
    given = read or {}
    lengths, new = list(map(len, prompts)), [p[:-1] for p in prompts if tuple(p) not in given]
    if (
        min(lengths) == 1
        or len(new) == len(prompts) == 1
        or not can_continue(model, max(lengths) + room)
    ):
        return {}
    if new:
        rows = [torch.tensor(prompt) for prompt in new]
        ids = pad_sequence(rows, batch_first=True)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        none = torch.zeros(0, dtype=torch.long)
        tokens = Tokens(ids, mask, none, none).to(device_of(model))
        _, states = logits_and_prompts(model, tokens, len(new))
        asked = (tuple(prompt) for prompt in prompts if tuple(prompt) not in given)
        given = {**given, **dict(zip(asked, states, strict=True))}
    return {"past_key_values": left_padded(given[tuple(prompt)] for prompt in prompts)}


def left_padded(prompts: Iterable[KeyValues]) -> DynamicCache:
    """Return one cache with all prompts, padded on the left."""
    cache = DynamicCache()
    for index, layer in enumerate(zip(*prompts, strict=True)):
        keys, values = map(_padded, zip(*layer, strict=True))
        cache.update(keys, values, index)
    return cache


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows ``[T, H, d]`` to ``[B, H, T, d]``."""
    stacked = pad_sequence(list(rows), batch_first=True, padding_side="left")
    return stacked.transpose(1, 2).contiguous()
