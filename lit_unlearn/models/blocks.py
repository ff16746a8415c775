"""Decoder blocks of a model, by number or by relative depth."""

from typing import Any

from torch import nn

from lit_unlearn.errors import InputError

__all__ = ["block_index", "decoder_blocks"]


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the decoder blocks in order, with or without adapters in them."""
    config: Any = getattr(model, "config", None)
    count = getattr(config.get_text_config(), "num_hidden_layers", 0) if config is not None else 0
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise InputError(
        f"Parameter `model.student.path` should name a model with a list of its {count} decoder "
        f"blocks. Found a {type(model).__name__} without one; take another model, or objectives on "
        "logits, which need none."
    )


def block_index(depth: float, count: int) -> int:
    """Return the index of the block whose output lies at a relative depth in (0, 1].

    Depth d of a model with L blocks is the output of block round(d L), at least the first; 1 is the
    last. A setting therefore means the same in every model.
    """
    if not 0 < depth <= 1:
        raise InputError(
            "Parameter `depth` should lie above 0 and be at most 1, the last decoder block. "
            f"Found {depth}; divide the block's number by the number of blocks."
        )
    return max(1, round(depth * count)) - 1
