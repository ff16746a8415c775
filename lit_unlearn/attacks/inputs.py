"""Prompts with an inserted attack: its place, its target, and the target's likelihood.

Inserted vectors that belong to no token get ids beyond the model's vocabulary. Losses, padding and
generation then treat them like tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.data.collation import tokens
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.likelihood import mean_nll_per_row
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.objectives.losses import cross_entropy
from lit_unlearn.types import Turn

__all__ = ["AttackRow"]
__all__ += ["chunks", "embedding_table", "embeddings_of", "extended", "opener_ids", "split_prompt"]
__all__ += ["target_nll", "virtual_tokens"]

_FILLER = " !"


@dataclass(frozen=True)
class AttackRow:
    """One prompt, split at the place of the insertion, and the text that should follow it."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]
    """At least one token id."""

    def prompt(self, inserted: Sequence[int]) -> list[int]:
        """Return the prompt's token ids with others inserted."""
        return [*self.before, *inserted, *self.after]


def split_prompt(
    encoder: Encoder, turns: Sequence[Turn], *, plain: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split the token ids of a prompt at the end of the question.

    The end is the first position at which the token ids change if the question is longer.

    Raises:
        InputError: The template does not show the whole question.
    """
    bare = encoder.prompt_ids(turns, plain=plain)
    longer = encoder.prompt_ids(extended(turns, _FILLER), plain=plain)
    if bare == longer:
        raise InputError(
            f"The chat template should show the whole question. Found the same prompt for "
            f"{turns[-1].content!r} and for a longer one; use another template."
        )
    shortest = min(len(bare), len(longer))
    cut = next((i for i in range(shortest) if bare[i] != longer[i]), shortest)
    return tuple(bare[:cut]), tuple(bare[cut:])


def extended(turns: Sequence[Turn], text: str) -> tuple[Turn, ...]:
    """Return the conversation with a text right after the question."""
    return (*turns[:-1], replace(turns[-1], content=turns[-1].content + text))


def opener_ids(
    encoder: Encoder, turns: Sequence[Turn], opener: str, *, plain: bool = False
) -> tuple[int, ...]:
    """Return the token ids of the beginning of an answer, as they follow the prompt.

    Raises:
        InputError: It is empty, or its first token merges with the prompt's last token.
    """
    prompt = encoder.prompt_ids(turns, plain=plain)
    whole = encoder.prompt_ids(turns, plain=plain, prefill=opener)
    if len(whole) <= len(prompt) or whole[: len(prompt)] != prompt:
        raise InputError(
            "Parameter `opener` should be a text whose tokens follow the prompt's. Found "
            f"{opener!r}; begin it with another letter."
        )
    return tuple(whole[len(prompt) :])


def target_nll(
    model: nn.Module, rows: Sequence[AttackRow], inserted: Sequence[Sequence[int]]
) -> Tensor:
    """Return the mean negative log-likelihood of each row's target after its prompt and insertion.

    The ``[B]`` values are in nats per target token; gradients flow. The model is in evaluation
    mode; `inserted` are token ids, one sequence per row.
    """
    prompts = [row.prompt(ids) for row, ids in zip(rows, inserted, strict=True)]
    sequences = [[*p, *row.target] for p, row in zip(prompts, rows, strict=True)]
    counts = [len(row.target) for row in rows]
    device = next(model.parameters()).device
    read = tokens(sequences, [len(p) for p in prompts], counts, 0).to(device)
    wanted = torch.tensor([token for row in rows for token in row.target], device=device)
    losses = cross_entropy(answer_logits(model, read), wanted)
    return mean_nll_per_row(-losses, read.rows, len(rows))


def chunks(count: int, size: int) -> list[range]:
    """Return ``range(count)`` in consecutive parts of at most ``size``."""
    edges = [*range(0, count, size), count]
    return [range(first, last) for first, last in pairwise(edges)]


def embeddings_of(model: nn.Module) -> nn.Embedding:
    """Return the module that turns token ids into vectors; raise an `InputError` without one."""
    find: Any = getattr(model, "get_input_embeddings", None)
    module = find() if find is not None else None
    if not isinstance(module, nn.Embedding):
        raise InputError(
            f"Parameter `model` should have a table of token embeddings. Found a "
            f"{type(model).__name__} without; give a causal language model of transformers."
        )
    return module


def embedding_table(model: nn.Module) -> Tensor:
    """Return each token's vector as the first layer gets it: ``[V, D]`` float32, no gradient."""
    module = embeddings_of(model)
    with torch.no_grad():
        ids = torch.arange(module.num_embeddings, device=module.weight.device)
        table: Tensor = module(ids)
        return table.float()


@contextmanager
def virtual_tokens(model: nn.Module, vectors: Tensor) -> Iterator[None]:
    """Let token id ``V + i`` stand for vector i of ``[K, D]`` within the context.

    ``V`` is the size of the model's table of token embeddings. Gradients flow into the vectors.
    Models that look up token ids in a second table (per-layer embeddings) cannot be read this way.
    """
    table = embeddings_of(model)
    size = table.num_embeddings
    ids = torch.empty(0)

    def hide(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal ids
        ids = inputs[0]
        return (ids.clamp(max=size - 1), *inputs[1:])

    def show(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        index = ids - size
        chosen = vectors.to(output)[index.clamp(min=0)]
        return torch.where((index >= 0)[..., None], chosen, output)

    handles = [table.register_forward_pre_hook(hide), table.register_forward_hook(show)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
