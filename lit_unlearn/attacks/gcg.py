"""Greedy Coordinate Gradient: a suffix of ordinary tokens that makes a target likely.

Zou et al. 2023, "Universal and Transferable Adversarial Attacks on Aligned Language Models" (arXiv
2307.15043), Algorithms 1 and 2: for each position, the gradient of the loss with respect to the
suffix's one-hot vectors proposes the tokens that would lower the loss most. A random sample of
these replacements is tried, and the best one is taken. Three details differ here: all rows are
attacked from the first step on; a replacement is taken only if it lowers the loss; and a suffix is
tried only if it has the same token ids after decoding and tokenising again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from lit_unlearn.attacks.inputs import (
    AttackRow,
    chunks,
    embedding_table,
    target_nll,
    virtual_tokens,
)
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.forward import evaluating

__all__ = ["Search", "Suffix", "Survives"]
__all__ += ["mean_losses", "one_hot_gradient", "printable_tokens", "search_suffix", "top_tokens"]

Survives = Callable[[Sequence[int]], bool]
"""Function that returns whether a suffix keeps its token ids when decoded and tokenised again."""


@dataclass
class Search:
    """Settings of the search for a suffix.

    Args:
        steps: Number of steps, each of which replaces one token. Published: 250 to 500.
        width: Replacements tried per step; each costs a forward pass per row. Published: 512.
        top_k: Tokens proposed for each position. Published: 256.
        seed: Seed of the sample.
    """

    steps: int = 50
    width: int = 32
    top_k: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("steps", self.steps, 0)
        check_number("width", self.width, 1)
        check_number("top_k", self.top_k, 1)


@dataclass(frozen=True)
class Suffix:
    """The suffix that was found."""

    ids: tuple[int, ...]
    losses: list[float]
    """Mean target NLL of the best suffix before the first step and after each step, in nats per
    target token."""


def search_suffix(
    model: nn.Module,
    rows: Sequence[AttackRow],
    start: Sequence[int],
    allowed: Tensor,
    survives: Survives,
    search: Search,
    *,
    batch_size: int = 16,
) -> Suffix:
    """Search a suffix that makes the targets of the rows likely.

    The model is read in evaluation mode and not changed. `start` are the token ids of the first
    suffix, for which `survives` must hold; `allowed`, ``[V]`` bool, marks the tokens that a suffix
    may have.

    Raises:
        InputError: There are no rows or no allowed tokens, or `start` is empty or not `survives`.
    """
    _check(rows, start, allowed, survives)
    generator = torch.Generator().manual_seed(search.seed)
    best = tuple(start)
    with evaluating(model):
        losses = [mean_losses(model, rows, [best], batch_size)[0]]
        for _ in range(search.steps):
            gradient = one_hot_gradient(model, rows, best, batch_size)
            proposals = top_tokens(gradient, allowed, search.top_k)
            drawn = _sample(best, proposals, search.width, generator)
            tried = [suffix for suffix in drawn if survives(suffix)]
            values = mean_losses(model, rows, tried, batch_size)
            if values and min(values) < losses[-1]:
                best = tried[values.index(min(values))]
            losses.append(min([losses[-1], *values]))
    return Suffix(best, losses)


def one_hot_gradient(
    model: nn.Module, rows: Sequence[AttackRow], suffix: Sequence[int], batch_size: int
) -> Tensor:
    """Return the gradient ``[L, V]`` of the mean loss with respect to the suffix's one-hot vectors.

    ``dL/d onehot[i, v] = <dL/d x_i, E_v>`` with the input vector ``x_i`` of position ``i`` and the
    embedding ``E_v`` of token ``v``.
    """
    table = embedding_table(model)
    leaf = table[torch.tensor(suffix, device=table.device)].clone().requires_grad_()
    ids = [len(table) + i for i in range(len(suffix))]
    gradient = torch.zeros_like(leaf)
    with torch.enable_grad(), virtual_tokens(model, leaf):
        for part in chunks(len(rows), batch_size):
            losses = target_nll(model, [rows[r] for r in part], [ids] * len(part))
            gradient += torch.autograd.grad(losses.sum() / len(rows), leaf)[0]
    return gradient @ table.T


def top_tokens(gradient: Tensor, allowed: Tensor, top_k: int) -> Tensor:
    """Return ``[L, K]`` int64: the allowed tokens with the most negative gradient, best first.

    `gradient` is ``[L, V]``, `allowed` ``[V]`` bool; ``K`` is `top_k`, or the number of allowed
    tokens if that is smaller.
    """
    count = min(top_k, int(allowed.sum()))
    masked = gradient.masked_fill(~allowed.to(gradient.device), torch.inf)
    return masked.topk(count, dim=-1, largest=False).indices


def mean_losses(
    model: nn.Module, rows: Sequence[AttackRow], suffixes: Sequence[Sequence[int]], batch_size: int
) -> list[float]:
    """Return the mean loss of each suffix over all rows, in nats per target token."""
    pairs = [(row, suffix) for suffix in suffixes for row in rows]
    values: list[float] = []
    with torch.no_grad():
        for part in chunks(len(pairs), batch_size):
            members = [pairs[p] for p in part]
            losses = target_nll(model, [row for row, _ in members], [ids for _, ids in members])
            values += losses.tolist()
    count = len(rows)
    return [sum(values[i : i + count]) / count for i in range(0, len(values), count)]


def printable_tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor:
    """Return which tokens are printable ASCII text and not special, ``[size]`` bool.

    `size` is that of the model's embedding table, which may have more rows than there are tokens.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    texts = tokenizer.batch_decode([[i] for i in range(min(size, len(tokenizer)))])
    allowed = torch.zeros(size, dtype=torch.bool)
    for token, text in enumerate(texts):
        allowed[token] = token not in special and text.isascii() and text.isprintable()
    return allowed


def _sample(
    suffix: tuple[int, ...], proposals: Tensor, width: int, generator: torch.Generator
) -> list[tuple[int, ...]]:
    """Return at most ``width`` different suffixes with one token replaced by a proposed one."""
    positions = torch.randint(len(suffix), (width,), generator=generator).tolist()
    choices = torch.randint(proposals.shape[1], (width,), generator=generator).tolist()
    found: dict[tuple[int, ...], None] = {}
    for position, choice in zip(positions, choices, strict=True):
        token = int(proposals[position, choice])
        found[(*suffix[:position], token, *suffix[position + 1 :])] = None
    found.pop(suffix, None)
    return list(found)


def _check(
    rows: Sequence[AttackRow], start: Sequence[int], allowed: Tensor, survives: Survives
) -> None:
    if not rows or not start or not bool(allowed.any()):
        raise InputError(
            "A suffix search should have rows, a suffix to start from and tokens to exchange. "
            f"Found {len(rows)} rows, {len(start)} tokens of suffix and {int(allowed.sum())} "
            "allowed tokens; add what is missing."
        )
    if not survives(start):
        raise InputError(
            "Parameter `start` should be a suffix that is tokenised to the same ids again. Found "
            f"{list(start)}; start from another text."
        )
