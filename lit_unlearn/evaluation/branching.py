"""Several continuations of one prompt: the prompt is computed once, its cache serves them all."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lit_unlearn.data.collation import pad
from lit_unlearn.models.forward import output_head
from lit_unlearn.models.generation import pad_left


def can_branch(model: nn.Module) -> bool:
    """Whether a model's cache can be repeated and gone on from at positions that are given.

    False for models with sliding windows, chunks or states, and for those that take no cache or
    no positions.
    """
    within: Any = getattr(model, "get_base_model", lambda: model)()
    taken = inspect.signature(within.forward).parameters
    if "past_key_values" not in taken or "position_ids" not in taken:
        return False
    layers = DynamicCache(config=within.config).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def branch_logits(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    branches: Sequence[Sequence[Sequence[int]]],
    pad_id: int = 0,
) -> tuple[Tensor, Tensor]:
    """Logits that predict every token of every continuation.

    The prompts are padded on the left, run once, and their cache is repeated for the continuations,
    which are padded on the right. The output head runs at predicting positions only.

    Args:
        model: A causal language model for which `can_branch` holds, in evaluation mode.
        prompts: ``B`` prompts as token ids, none empty.
        branches: Continuations of each prompt as token ids, ``K`` in all, none empty.
        pad_id: Any valid token id; it is never looked at.

    Returns:
        ``[B, V]`` logits after each prompt, which predict first tokens; and ``[N - K, V]`` logits
        that predict the other tokens, continuation by continuation, ``N`` being the tokens of all.
        Both in the model's number format.
    """
    within: Any = getattr(model, "get_base_model", lambda: model)()
    device = next(model.parameters()).device
    ids, mask = (t.to(device) for t in pad_left(prompts, pad_id))
    cache = DynamicCache(config=within.config)
    rows = torch.arange(len(prompts), device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    last = torch.full_like(rows, ids.shape[1] - 1)
    first = _logits(model, cache, ids, mask, positions, rows, last)
    inputs = [branch[:-1] for group in branches for branch in group]
    if not any(inputs):
        return first, first[:0]
    owner = torch.tensor([b for b, group in enumerate(branches) for _ in group], device=device)
    cache.batch_select_indices(owner)
    more, more_mask = (t.to(device) for t in pad(inputs, pad_id))
    rows, columns = more_mask.nonzero(as_tuple=True)
    positions = mask.sum(1)[owner, None] + torch.arange(more.shape[1], device=device)
    mask = torch.cat([mask[owner], more_mask], dim=1)
    return first, _logits(model, cache, more, mask, positions, rows, columns)


def _logits(
    model: nn.Module,
    cache: DynamicCache,
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    rows: Tensor,
    columns: Tensor,
) -> Tensor:
    """``[N, V]`` logits at rows and columns; `mask` speaks of the cached tokens as well."""

    def select(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: Tensor = inputs[0]
        return (hidden[rows, columns][None], *inputs[1:])

    handle = output_head(model).register_forward_pre_hook(select)
    try:
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
    finally:
        handle.remove()
    logits: Tensor = output.logits
    return logits[0]
