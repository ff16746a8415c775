"""Rows of different lengths in one forward pass without padding.

The rows are put one after the other into a single one, with positions that restart in each. Only
attention must know where a row begins: it runs row by row. Everything else in a decoder works token
by token. So the padded positions, which would cost as much as real ones, do not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.types import Tokens
from lit_unlearn.utils.library_internals import attention_kind

LENGTHS = "packed_row_lengths"
"""Name of the option by which attention gets `RowLengths`."""


@dataclass(frozen=True)
class RowLengths:
    """Tokens of each packed row, hidden from `torch.compile`, which takes numbers for constants."""

    lengths: tuple[int, ...]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Run the `sdpa` attention of transformers, with `packed_row_lengths` within each row alone."""
    packed_rows: RowLengths | None = options.pop(LENGTHS, None)
    if packed_rows is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return found
    lengths = packed_rows.lengths
    rows = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    parts = [sdpa_attention_forward(module, q, k, v, None, **options)[0] for q, k, v in rows]
    return torch.cat(parts, dim=1), None


def register_sdpa(function: Callable[..., tuple[Tensor, None]]) -> None:
    """Put a function in place of transformers' `sdpa` attention, for all models.

    A name of its own would not do: transformers makes masks for the names that it knows, and
    checkpointed blocks look the function up again in the backward pass.
    """
    AttentionInterface.register("sdpa", function)


@cache
def install() -> None:
    """Let all models run `attention` from now on, which packed rows need; once is enough."""
    register_sdpa(attention)


def packable(model: nn.Module, longest: int) -> bool:
    """Return whether rows can be packed: every layer is plain causal attention, and takes options.

    Args:
        model: A causal language model of transformers, possibly with adapters or sharded.
        longest: Tokens of the longest row.
    """
    whole: Any = base_model(model)
    if attention_kind(whole) != "sdpa":
        return False
    text = whole.config.get_text_config()
    window = getattr(text, "sliding_window", None)
    layers = set(getattr(text, "layer_types", None) or ["full_attention"])
    kinds = {"full_attention", "sliding_attention"} if window else {"full_attention"}
    fits = layers <= kinds and (window is None or longest <= window)
    return fits and not getattr(text, "is_encoder_decoder", False)


def packed(model: nn.Module, tokens: Tokens) -> tuple[dict[str, Any], Tensor] | None:
    """Return a model's arguments for packed rows, and where the predictions are in them.

    Args:
        model: See `packable`.
        tokens: ``B`` rows and ``N`` positions in them.

    Returns:
        Keyword arguments for the model, whose output has ``[1, L]`` tokens, L those of all rows,
        and ``[N]`` positions among them. None where nothing would be saved, where tokens within a
        row are hidden, or where the model cannot read packed rows.
    """
    real = tokens.attention_mask.bool()
    lengths: list[int] = real.sum(1).tolist()
    width = real.shape[1]
    hidden = bool((~real[:, :-1] & real[:, 1:]).any())  # a token before the row's end
    if min(lengths) == width or hidden or not packable(model, max(lengths)):
        return None
    install()
    places = real.flatten().cumsum(0).reshape(real.shape) - 1
    arguments = {
        "input_ids": tokens.input_ids[real][None],
        "position_ids": (real.cumsum(1) - 1)[real][None],
        # never read: a mask of four dimensions keeps transformers from making one of its own
        "attention_mask": torch.zeros(1, 1, 1, 1, device=real.device),
        "use_cache": False,
        LENGTHS: RowLengths(tuple(lengths)),
    }
    return arguments, places[tokens.rows, tokens.columns]
