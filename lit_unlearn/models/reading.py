"""Logits where they are used: a model's output head runs at answer positions only.

Nothing of size ``[B, T, V]`` is ever built. The hidden states are selected right before the output
head by a hook, so that the model's own forward stays in charge (logit scaling, soft caps, adapters,
sharding) and every causal language model of transformers works unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.schema import InputError, Tokens


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


def answer_logits(model: nn.Module, tokens: Tokens) -> Tensor:
    """Logits at the given positions.

    Args:
        model: A causal language model of transformers, possibly with adapters or sharded.
        tokens: ``B`` sequences and ``N`` positions in them.

    Returns:
        ``[N, V]`` float32 logits, in the order of ``tokens.rows``.
    """

    def select(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: Tensor = inputs[0]
        return (hidden[tokens.rows, tokens.columns][None], *inputs[1:])

    handle = output_head(model).register_forward_pre_hook(select)
    try:
        output = model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, use_cache=False
        )
    finally:
        handle.remove()
    logits: Tensor = output.logits
    return logits[0].float()


class ModelReader:
    """Reads a model that is being trained: gradients flow, the mode stays as it is."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def logits(self, tokens: Tokens) -> Tensor:
        """See `answer_logits`."""
        return answer_logits(self.model, tokens)


class FrozenReader:
    """Reads a model without gradient and in evaluation mode (no dropout)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def logits(self, tokens: Tokens) -> Tensor:
        """See `answer_logits`."""
        with torch.no_grad(), evaluating(self.model):
            return answer_logits(self.model, tokens)


class evaluating:  # noqa: N801 - reads as a phrase: with evaluating(model)
    """Context manager: evaluation mode inside, every submodule's own mode again afterwards."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode
