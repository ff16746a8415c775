"""Choice of transformers' attention implementation: eager for models without sdpa."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Literal, TypeVar

__all__ = ["Attention", "with_attention"]

Attention = Literal["sdpa", "eager", "flash_attention_2"]
"""Attention implementation of transformers."""
M = TypeVar("M")

log = logging.getLogger(__name__)


def with_attention(make: Callable[[str], M], wanted: str) -> M:
    """Create a model; use `eager` attention, and log that once, if its class has no `sdpa`."""
    try:
        return make(wanted)
    except ValueError as error:
        if wanted != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        _warn_eager(str(error).split(" ", 1)[0])
        return make("eager")


@cache
def _warn_eager(model_class: str) -> None:
    log.warning(
        "%s has no sdpa attention; eager attention is used. `--model.student.attention eager` "
        "(`--attention eager` in `evaluate`) sets it without this warning.",
        model_class,
    )
