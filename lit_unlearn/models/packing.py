"""Rows packed into one forward pass: without padding, common beginnings are read once.

The segments of the rows' prefix tree (`prefix_tree`) are concatenated to a single row. Their tokens
keep the position ids that they have in the unpacked rows. Only attention must know the tree:
a segment's tokens attend to the segments before them in their rows, and to each other. All other
layers of a decoder work token by token. The backward pass adds up the gradients of all rows at a
shared token, so losses and gradients equal those of the separate rows, up to rounding.
"""

from bisect import bisect_right
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.models.prefix_tree import PrefixTree, prefix_tree, separate
from lit_unlearn.models.tree_attention import LAYOUT, install, layout_of
from lit_unlearn.types import Tokens
from lit_unlearn.utils.library_internals import attention_kind

__all__ = ["Packed"]
__all__ += ["draws_at_random", "packable", "packed", "rows_read", "tree_arguments"]


def packable(model: nn.Module, longest: int) -> bool:
    """Return whether rows can be packed: every layer must be plain causal sdpa attention.

    ``longest`` is the number of tokens of the longest row.
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


class Packed(NamedTuple):
    """Rows packed for a forward pass."""

    arguments: dict[str, Any]
    """Keyword arguments for the model, whose output has ``[1, L]`` tokens."""
    places: Tensor
    """``[N]``, int64: positions of the predictions among the ``L`` tokens."""
    rows: list[list[int]]
    """Token ids of the ``B`` rows, each up to its last prediction."""
    tree: PrefixTree
    """Prefix tree of the rows; its segments make up the ``L`` tokens."""


def packed(
    model: nn.Module, tokens: Tokens, *, always: bool = False, whole: bool = False
) -> Packed | None:
    """Pack rows if that saves tokens; tokens after a row's last prediction are left out.

    Beginnings are not shared while dropout is active, since it differs between rows. ``always``
    packs even if that saves nothing; ``whole`` keeps the tokens after the last prediction.

    Returns:
        None if packing would save nothing, a token within a row is masked, or the model cannot
            read packed rows.
    """
    real = tokens.attention_mask.bool()
    hidden = bool((~real[:, :-1] & real[:, 1:]).any())  # a masked token before a real one
    if hidden or not packable(model, int(real.sum(1).max())):
        return None
    install()
    rows = rows_read(tokens, whole=whole)
    tree = separate(rows) if draws_at_random(model) else prefix_tree(rows)
    if tree.tokens == real.numel() and not always:
        return None
    columns = (tokens.columns - _padding(tokens)[tokens.rows]).tolist()
    places = torch.tensor(_places(tree, tokens.rows.tolist(), columns), dtype=torch.long)
    device = tokens.input_ids.device
    return Packed(tree_arguments(tree, device), places.to(device), rows, tree)


def rows_read(tokens: Tokens, *, whole: bool = False) -> list[list[int]]:
    """Return the token ids of each row up to its last prediction or end, without padding."""
    last = tokens.columns.new_zeros(len(tokens.input_ids))
    last = last.scatter_reduce(0, tokens.rows, tokens.columns, "amax")
    ends = torch.maximum(last, _padding(tokens)) + 1
    if whole:
        ends = torch.full_like(ends, tokens.input_ids.shape[1])
    real = tokens.attention_mask.bool()
    return [
        ids[:end][mask[:end]].tolist()
        for ids, mask, end in zip(tokens.input_ids, real, ends.tolist(), strict=True)
    ]


def _padding(tokens: Tokens) -> Tensor:
    """Return the number of padded positions before each row, ``[B]``."""
    return tokens.attention_mask.bool().int().argmax(1)


def draws_at_random(model: nn.Module) -> bool:
    """Return whether a forward pass draws random numbers: dropout in training mode."""
    return any(
        module.training
        and (
            getattr(module, "attention_dropout", 0.0) > 0
            or (isinstance(module, nn.Dropout) and module.p > 0)
        )
        for module in model.modules()
    )


def tree_arguments(tree: PrefixTree, device: torch.device) -> dict[str, Any]:
    """Return a model's keyword arguments for all segments of a tree in one row."""
    ids = [i for segment in tree.segments for i in segment.ids]
    positions = [s.first + i for s in tree.segments for i in range(len(s.ids))]
    return {
        "input_ids": torch.tensor(ids, device=device)[None],
        "position_ids": torch.tensor(positions, device=device)[None],
        # never read: a mask with four dimensions stops transformers from building one
        "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
        "use_cache": False,
        LAYOUT: layout_of(tree, device),
    }


def _places(tree: PrefixTree, rows: list[int], columns: list[int]) -> list[int]:
    """Return the positions in the packed row of ``N`` tokens, given by row and unpadded column."""
    starts, found = tree.starts, []
    for row, column in zip(rows, columns, strict=True):
        chain = tree.chains[row]
        at = bisect_right(chain, column, key=lambda s: tree.segments[s].first) - 1
        found.append(starts[chain[at]] + column - tree.segments[chain[at]].first)
    return found
