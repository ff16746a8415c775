"""The attention implementation of transformers, with eager where a model has no other."""

from __future__ import annotations

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
    """Make a model; with `eager` attention, and one logged line, where its class has no `sdpa`."""
    try:
        return make(wanted)
    except ValueError as error:
        if wanted != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        _say_eager(str(error).split(" ", 1)[0])
        return make("eager")


@cache
def _say_eager(model_class: str) -> None:
    log.warning(
        "%s has no sdpa attention; eager attention is used. `--model.student.attention eager` "
        "(`--attention eager` in `evaluate`) chooses it without this line.",
        model_class,
    )
