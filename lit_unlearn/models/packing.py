"""Rows of different lengths in one forward pass without padding.

The rows are put one after the other into a single one, with positions that begin anew in each.
Only attention must know where a row begins: it runs row by row. All else in a decoder works token
by token, so that padded positions, which would cost as much as real ones, are not there at all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.types import Tokens

LENGTHS = "packed_row_lengths"
"""Name of the option by which attention learns them."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The `sdpa` attention of transformers; with `packed_row_lengths`, within each row alone."""
    lengths: list[int] | None = options.pop(LENGTHS, None)
    if lengths is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return found
    rows = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    parts = [sdpa_attention_forward(module, q, k, v, None, **options)[0] for q, k, v in rows]
    return torch.cat(parts, dim=1), None


AttentionInterface.register("sdpa", attention)


def packable(model: nn.Module, longest: int) -> bool:
    """Whether rows can be packed: every layer is plain causal attention, and takes options.

    Args:
        model: A causal language model of transformers, possibly with adapters or sharded.
        longest: Tokens of the longest row.
    """
    whole: Any = base_model(model)
    config: Any = getattr(whole, "config", None)
    if config is None or not getattr(whole, "_supports_attention_backend", False):
        return False
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    layers = set(getattr(text, "layer_types", None) or ["full_attention"])
    kinds = {"full_attention", "sliding_attention"} if window else {"full_attention"}
    return (
        text._attn_implementation == "sdpa"
        and layers <= kinds
        and (window is None or longest <= window)
        and not getattr(text, "is_encoder_decoder", False)
    )


def packed(model: nn.Module, tokens: Tokens) -> tuple[dict[str, Any], Tensor] | None:
    """Inputs of a model for packed rows, and where the predictions are in them.

    Args:
        model: See `packable`.
        tokens: ``B`` rows and ``N`` positions in them.

    Returns:
        Keyword arguments for the model, whose output has ``[1, L]`` tokens, L those of all rows,
        and ``[N]`` positions among them. None where nothing would be saved, where tokens within a
        row are hidden, or the model cannot.
    """
    real = tokens.attention_mask.bool()
    lengths: list[int] = real.sum(1).tolist()
    width = real.shape[1]
    hidden = bool((~real[:, :-1] & real[:, 1:]).any())  # a token before the row's end
    if min(lengths) == width or hidden or not packable(model, max(lengths)):
        return None
    places = real.flatten().cumsum(0).reshape(real.shape) - 1
    inputs = {
        "input_ids": tokens.input_ids[real][None],
        "position_ids": (real.cumsum(1) - 1)[real][None],
        # never read: a mask of four dimensions keeps transformers from making one of its own
        "attention_mask": torch.zeros(1, 1, 1, 1, device=real.device),
        LENGTHS: lengths,
    }
    return inputs, places[tokens.rows, tokens.columns]
