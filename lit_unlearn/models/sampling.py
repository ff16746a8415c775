"""Sampled replies that depend on prompt, sample number and seed alone, not on their batch."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor

from lit_unlearn.errors import check_fields, ranged

__all__ = ["Sampler", "Sampling", "nucleus", "sample_tokens"]


@dataclass(frozen=True)
class Sampling:
    """Settings of sampled replies.

    Args:
        temperature: Divisor of the logits; above 0.
        top_p: Sample only from the most probable tokens with this total probability, in (0, 1]
            (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751).
        samples: Replies per prompt.
        seed: Seed of the replies.
    """

    temperature: float = ranged(1.0, 0, above=True)
    top_p: float = ranged(1.0, 0, 1, above=True)
    samples: int = ranged(1, 1)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "")

    def stream(self, prompt: Sequence[int], sample: int) -> random.Random:
        """Return the random generator of one reply, which takes one number per token."""
        return random.Random(f"{self.seed} {sample} {list(prompt)}")


def nucleus(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return the probabilities of the tokens that may be sampled, ``[R, V]``; 0 for all others.

    The set of these tokens is the smallest with at least the mass `top_p`, in (0, 1]; it is never
    empty. A row sums to the mass of its set, not to 1.
    """
    probabilities = (logits / temperature).softmax(-1)
    if top_p >= 1:
        return probabilities
    ordered, tokens = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, tokens, before >= top_p)
    return probabilities.masked_fill(dropped, 0.0)


def sample_tokens(masses: Tensor, uniforms: Tensor) -> Tensor:
    """Return one token per row, ``[R]``, by the inverse of the cumulative distribution.

    ``masses``, ``[R, V]``, are not negative; rows need not sum to 1. ``uniforms`` are ``[R]``, in
    [0, 1]. A token of mass 0 is never returned.
    """
    cumulative = masses.cumsum(-1)
    total = cumulative[:, -1]
    threshold = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]


class Sampler(LogitsProcessor):
    """Logits processor that makes greedy search sample: only the sampled token has a finite score.

    ``streams`` are the random generators of the batch's rows.
    """

    def __init__(self, sampling: Sampling, streams: Sequence[random.Random]) -> None:
        self.sampling, self.streams = sampling, streams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores ``[R, V]``: 0 for the sampled token, minus infinity for all others."""
        masses = nucleus(scores, self.sampling.temperature, self.sampling.top_p)
        numbers = [stream.random() for stream in self.streams]
        uniforms = torch.tensor(numbers, dtype=masses.dtype, device=masses.device)
        sampled = sample_tokens(masses, uniforms)
        return torch.full_like(scores, -torch.inf).scatter(1, sampled[:, None], 0.0)
