"""Logits where they are used: a model's output head runs at answer positions only.

Nothing of size ``[B, T, V]`` is ever built. The hidden states are selected right before the output
head by a hook, so that the model's own forward stays in charge (logit scaling, soft caps, adapters,
sharding) and every causal language model of transformers works unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lit_unlearn.distributed.ranks import is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.models.packing import packable, packed
from lit_unlearn.types import Tokens


def output_head(model: nn.Module) -> nn.Module:
    """The module that turns hidden states into logits.

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


def answer_logits(model: nn.Module, tokens: Tokens, *, pack: bool = True) -> Tensor:
    """Logits at the given positions.

    Args:
        model: A causal language model of transformers, possibly with adapters or sharded.
        tokens: ``B`` sequences and ``N`` positions in them.
        pack: Whether padding may be left out (`lit_unlearn.models.packing`); false where a hook
            must see hidden states of ``[B, T, d]``.

    Returns:
        ``[N, V]`` float32 logits, in the order of ``tokens.rows``.
    """
    dense = packed(model, tokens) if pack else None
    if dense is not None:
        return _logits_at(model, dense[0], (0, dense[1]))
    inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    return _logits_at(model, inputs, (tokens.rows, tokens.columns))


def _logits_at(model: nn.Module, inputs: dict[str, Any], at: tuple[Any, Tensor]) -> Tensor:
    """``[N, V]`` float32 logits from the hidden states at the given rows and columns."""

    def select(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: Tensor = given[0]
        return (hidden[at][None], *given[1:])

    handle = output_head(model).register_forward_pre_hook(select)
    try:
        output = model(**{"use_cache": False, **inputs})
    finally:
        handle.remove()
    logits: Tensor = output.logits
    return logits[0].float()


def shared_tokens(tokens: Tokens) -> int:
    """How many first tokens all rows share, none of them among the positions.

    0 where it is no gain to run them once, since the others are padded to one length then.
    """
    mask = tokens.attention_mask
    alike = ((tokens.input_ids == tokens.input_ids[0]) & mask.bool()).all(0)
    shared = min(int(alike.long().cumprod(0).sum()), int(tokens.columns.min()))
    rows, width = mask.shape
    return shared if shared + rows * (width - shared) < int(mask.sum()) else 0


def _memory(model: Any, ids: Tensor) -> DynamicCache | None:
    """Keys and values of a beginning; None where a model cannot go on from them."""
    past = DynamicCache(config=model.config)
    try:
        model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
    except Exception:  # what a model without such a memory raises is not known beforehand
        return None
    return past if past.get_seq_length() == ids.shape[1] else None


def prefixed_logits(model: nn.Module, tokens: Tokens) -> Tensor:
    """`answer_logits` without gradient; what all rows begin with, a context, is read once."""
    plain = packable(model, tokens.input_ids.shape[1]) and not is_sharded(model)
    shared = shared_tokens(tokens) if plain and len(tokens.columns) else 0
    past = _memory(model, tokens.input_ids[:1, :shared]) if shared else None
    if past is None:
        return answer_logits(model, tokens)
    past.batch_repeat_interleave(len(tokens.input_ids))
    inputs = {
        "input_ids": tokens.input_ids[:, shared:],
        "attention_mask": tokens.attention_mask,
        "past_key_values": past,
        "use_cache": True,
    }
    return _logits_at(model, inputs, (tokens.rows, tokens.columns - shared))


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
        """Return ``[N, V]`` float32 logits without gradient; see `answer_logits`."""
        with torch.no_grad(), evaluating(self.model):
            return prefixed_logits(self.model, tokens)


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
