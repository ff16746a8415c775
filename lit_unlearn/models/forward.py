"""Forward passes that compute logits only at chosen positions.

A pass has three stages. `_inputs` turns `Tokens` into the model's arguments: padded, or packed as
a prefix tree. The model's own forward computes hidden states. A hook before the output head
selects those at the chosen positions. No tensor of size ``[B, T, V]`` is built, and logit scaling,
soft caps, adapters and sharding work unchanged.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.models.packing import packed
from lit_unlearn.models.trunk import segment_states, starting_above
from lit_unlearn.types import Tokens

__all__ = ["FrozenReader", "Inputs", "StoredTrunk"]
__all__ += ["answer_logits", "evaluating", "head_inputs_at", "inputs_above", "logits_at"]
__all__ += ["output_head", "same_up_to_rounding"]

_ROUNDING = 0.2
"""Largest root mean square difference that counts as rounding, relative to the root mean square of
the centred logits. With SmolLM2-135M in bfloat16 another batch shape gave up to 0.06, and the model
before a fine-tuning 0.7. The largest single difference is not used: over a large vocabulary it was
nine times the mean difference."""


class Inputs(NamedTuple):
    """Arguments of one forward pass, and the ``N`` positions whose logits are computed."""

    arguments: dict[str, Any]
    rows: Tensor | int
    """``[N]``, int64; 0 for packed inputs, which are a single row."""
    columns: Tensor
    """``[N]``, int64."""


def output_head(model: nn.Module) -> nn.Module:
    """Return the module that turns hidden states into logits."""
    find: Any = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    if not isinstance(head, nn.Module):
        raise InputError(
            f"Parameter `model.student.path` should name a causal language model. Found a "
            f"{type(model).__name__} without an output head."
        )
    return head


def _inputs(model: nn.Module, tokens: Tokens, *, pack: bool = True) -> Inputs:
    """Choose the cheapest inputs that the model can read.

    ``pack`` allows packed rows (`lit_unlearn.models.packing`); it is false if a hook needs
    hidden states ``[B, T, d]``.
    """
    dense = packed(model, tokens) if pack else None
    if dense is not None:
        return Inputs(dense.arguments, 0, dense.places)
    arguments = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    return Inputs({**arguments, "use_cache": False}, tokens.rows, tokens.columns)


def logits_at(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return ``[N, V]`` logits at the positions of the inputs, in the model's own dtype."""
    output = _pass(model, inputs, lambda hidden: hidden)
    logits: Tensor = output.logits
    return logits[0]


def head_inputs_at(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the output head's inputs ``[N, D]`` at the positions of ``inputs``."""
    caught: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        caught.append(hidden)
        return hidden[:1]  # the model calls the head anyway; a single position keeps that cheap

    _pass(model, inputs, keep)
    return caught[0]


def _pass(model: nn.Module, inputs: Inputs, choose: Callable[[Tensor], Tensor]) -> Any:
    """Run a model whose output head gets only ``choose`` of the hidden states ``[N, D]``."""

    def select(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (choose(given[0][inputs.rows, inputs.columns])[None], *given[1:])

    handle = output_head(model).register_forward_pre_hook(select)
    try:
        return model(**inputs.arguments)
    finally:
        handle.remove()


class StoredTrunk(Protocol):
    """Stored outputs of a model's trunk (`lit_unlearn.models.trunk`)."""

    height: int
    """Number of the trunk's blocks."""

    def belongs_to(self, model: nn.Module) -> bool:
        """Return whether a model has this trunk."""

    def holds(self, row: Sequence[int]) -> bool:
        """Return whether the trunk's outputs for a sequence are stored."""

    def states(self, rows: Sequence[Sequence[int]]) -> list[Tensor] | None:
        """Return the trunk's outputs ``[T, D]`` for each sequence; None if any is missing."""


@contextmanager
def inputs_above(
    model: nn.Module, tokens: Tokens, trunk: StoredTrunk | None, *, pack: bool = True
) -> Iterator[Inputs]:
    """Yield the inputs of a pass, which starts above the trunk if that stores all sequences.

    Without a trunk (None) all blocks run; for ``pack`` see `_inputs`.
    """
    dense = None if trunk is None else packed(model, tokens, always=True)
    rows = None if trunk is None or dense is None else trunk.states(dense.rows)
    if trunk is None or dense is None or rows is None:
        yield _inputs(model, tokens, pack=pack)
        return
    states = segment_states(dense.tree, rows).to(tokens.input_ids.device)
    with starting_above(model, trunk.height, states):
        yield Inputs(dense.arguments, 0, dense.places)


def answer_logits(
    model: nn.Module, tokens: Tokens, *, pack: bool = True, trunk: StoredTrunk | None = None
) -> Tensor:
    """Return ``[N, V]`` float32 logits, in the order of ``tokens.rows``.

    The model is a causal language model of transformers, possibly with adapters or sharded. For
    ``pack`` see `_inputs`, for ``trunk`` `inputs_above`.
    """
    with inputs_above(model, tokens, trunk, pack=pack) as inputs:
        return logits_at(model, inputs).float()


class FrozenReader:
    """Reader of a model without gradient and in evaluation mode (no dropout)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits without gradient; see `answer_logits`."""
        with torch.no_grad(), evaluating(self.model):
            return answer_logits(self.model, tokens)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; restore the mode of every submodule afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def same_up_to_rounding(found: Tensor, logits: Tensor) -> bool:
    """Return whether two computations of logits, ``[N, V]`` each, differ only by rounding."""
    if found.shape != logits.shape:
        return False
    spread = (logits - logits.mean(-1, keepdim=True)).square().mean()
    return bool((found - logits).square().mean() <= _ROUNDING**2 * spread)
