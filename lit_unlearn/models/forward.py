"""Forward passes: tokens -> hidden states where something is predicted -> logits.

A pass has three stages. `arranged` turns `Tokens` into the model's arguments: padded, packed, or
behind a prefix that was read once. The model's own forward computes hidden states. A hook in front
of the output head selects those at the wanted positions, so that nothing of size ``[B, T, V]`` is
built, and logit scaling, soft caps, adapters and sharding work unchanged.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lit_unlearn.distributed.ranks import base_model, is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.models.packing import packed
from lit_unlearn.types import Tokens


class Inputs(NamedTuple):
    """Arguments of one forward pass, and the ``N`` positions whose hidden states are wanted."""

    arguments: dict[str, Any]
    rows: Tensor | int
    """``[N]``, int64; or the one row of packed inputs."""
    columns: Tensor
    """``[N]``, int64."""


def output_head(model: nn.Module) -> nn.Module:
    """Return the module that turns hidden states into logits.

    Raises:
        InputError: The model has none, so it is no causal language model.
    """
    find: Any = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    if not isinstance(head, nn.Module):
        raise InputError(
            f"Parameter `model.student.path` should name a causal language model. Found a "
            f"{type(model).__name__} without an output head."
        )
    return head


# --------------------------------------------------------------------------------------- one pass


def arranged(model: nn.Module, tokens: Tokens, *, pack: bool = True, share: bool = False) -> Inputs:
    """Choose the cheapest inputs that the model can read.

    Args:
        model: A causal language model of transformers, possibly with adapters or sharded.
        tokens: ``B`` sequences and ``N`` positions in them.
        pack: Whether padding may be left out (`lit_unlearn.models.packing`); false where a hook
            needs hidden states of ``[B, T, d]``.
        share: Whether tokens with which all rows begin may be read once, before the others.
    """
    longest = tokens.input_ids.shape[1]
    if share and not is_sharded(model) and can_share(model, longest):
        shared = shared_tokens(tokens)
        if shared:
            return behind_prefix(model, tokens, shared)
    dense = packed(model, tokens) if pack else None
    if dense is not None:
        return Inputs(dense[0], 0, dense[1])
    arguments = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    return Inputs({**arguments, "use_cache": False}, tokens.rows, tokens.columns)


def logits_at(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return ``[N, V]`` logits at the positions of the inputs, in the model's own dtype."""
    output = _pass(model, inputs, lambda hidden: hidden)
    logits: Tensor = output.logits
    return logits[0]


def head_inputs_at(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return ``[N, D]``: what enters the output head at the positions of the inputs."""
    caught: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        caught.append(hidden)
        return hidden[:1]  # the head runs for one position, since the model wants to call it

    _pass(model, inputs, keep)
    return caught[0]


def _pass(model: nn.Module, inputs: Inputs, choose: Callable[[Tensor], Tensor]) -> Any:
    """Run a model; its output head gets what is chosen of the hidden states ``[N, D]``."""

    def select(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (choose(given[0][inputs.rows, inputs.columns])[None], *given[1:])

    handle = output_head(model).register_forward_pre_hook(select)
    try:
        return model(**inputs.arguments)
    finally:
        handle.remove()


def answer_logits(
    model: nn.Module, tokens: Tokens, *, pack: bool = True, share: bool = False
) -> Tensor:
    """Return ``[N, V]`` float32 logits, in the order of ``tokens.rows``; see `arranged`."""
    return logits_at(model, arranged(model, tokens, pack=pack, share=share)).float()


# ---------------------------------------------------------------------------------------- prefixes


class Prefix(NamedTuple):
    """``P`` token sequences that were read, for rows that continue them."""

    cache: DynamicCache
    """Their keys and values; used up by the first continuation."""
    mask: Tensor
    """``[P, S]``, int64, 1 on real tokens."""


def can_share(model: nn.Module, longest: int = sys.maxsize) -> bool:
    """Return whether a model's key-value cache can be repeated and continued for several rows.

    False for layers with chunks or states, and for models that take no cache or no positions.

    Args:
        model: A causal language model of transformers, possibly with adapters or sharded.
        longest: Tokens of the longest row; a sliding window of that size or more hides nothing.
    """
    inner: Any = base_model(model)
    config = getattr(inner, "config", None)
    taken = inspect.signature(inner.forward).parameters
    if config is None or "past_key_values" not in taken or "position_ids" not in taken:
        return False
    text = config.get_text_config()
    fits = longest <= (getattr(text, "sliding_window", None) or 0)
    kinds = {"full_attention", "sliding_attention"} if fits else {"full_attention"}
    layers = (DynamicLayer, DynamicSlidingWindowLayer) if fits else (DynamicLayer,)
    return set(getattr(text, "layer_types", None) or kinds) <= kinds and all(
        type(layer) in layers for layer in DynamicCache(config=config).layers
    )


def shared_tokens(tokens: Tokens) -> int:
    """Return how many first tokens all rows share; no position is among them.

    0 where it saves nothing to read them once, since the other tokens are then padded.
    """
    mask = tokens.attention_mask
    alike = ((tokens.input_ids == tokens.input_ids[0]) & mask.bool()).all(0)
    shared = min([int(alike.long().cumprod(0).sum()), *tokens.columns.tolist()])
    rows, width = mask.shape
    return shared if shared + rows * (width - shared) < int(mask.sum()) else 0


def read_prefix(model: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, Prefix]:
    """Read token sequences that are padded on the left.

    Args:
        model: A causal language model for which `can_share` holds.
        ids: ``[P, S]``, int64.
        mask: ``[P, S]``, int64, 1 on real tokens.

    Returns:
        ``[P, V]`` logits after each sequence, in the model's own dtype; and the sequences' keys and
        values. Gradients flow through both.
    """
    prefix = Prefix(DynamicCache(config=_config(model)), mask)
    arguments = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "past_key_values": prefix.cache,
        "use_cache": True,
    }
    rows = torch.arange(len(ids), device=ids.device)
    last = torch.full_like(rows, ids.shape[1] - 1)
    return logits_at(model, Inputs(arguments, rows, last)), prefix


def continued(prefix: Prefix, owner: Tensor, tokens: Tokens) -> Inputs:
    """Return inputs for rows that continue a prefix.

    Args:
        prefix: The sequences that were read.
        owner: ``[B]``, int64: the sequence that each row continues.
        tokens: The ``B`` rows without their prefix, padded on the right.
    """
    prefix.cache.batch_select_indices(owner)
    steps = torch.arange(tokens.input_ids.shape[1], device=owner.device)
    arguments = {
        "input_ids": tokens.input_ids,
        "attention_mask": torch.cat([prefix.mask[owner], tokens.attention_mask], dim=1),
        "position_ids": prefix.mask.sum(1)[owner, None] + steps,
        "past_key_values": prefix.cache,
        "use_cache": True,
    }
    return Inputs(arguments, tokens.rows, tokens.columns)


def behind_prefix(model: nn.Module, tokens: Tokens, shared: int) -> Inputs:
    """Read the first tokens of all rows once; return inputs for the others.

    Args:
        model: A causal language model for which `can_share` holds.
        tokens: ``B`` sequences and ``N`` positions in them.
        shared: How many first tokens are the same in all rows; no position is among them.
    """
    ids, mask = tokens.input_ids, tokens.attention_mask
    _, prefix = read_prefix(model, ids[:1, :shared], mask[:1, :shared])
    rest = Tokens(ids[:, shared:], mask[:, shared:], tokens.rows, tokens.columns - shared)
    return continued(prefix, torch.zeros(len(ids), dtype=torch.long, device=ids.device), rest)


def _config(model: nn.Module) -> Any:
    inner: Any = base_model(model)
    return inner.config


# ----------------------------------------------------------------------------------------- readers


class ModelReader:
    """Reads a model that is being trained: gradients flow, the mode stays as it is."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits with gradient; see `answer_logits`."""
        return answer_logits(self.model, tokens)


class FrozenReader:
    """Reads a model without gradient and in evaluation mode (no dropout)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits without gradient; a shared prefix is read once."""
        with torch.no_grad(), evaluating(self.model):
            return answer_logits(self.model, tokens, share=True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; restore every submodule's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
