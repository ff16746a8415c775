"""Sampled replies that depend on prompt, sample number and seed alone, not on their batch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor

from lit_unlearn.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn.

    Args:
        temperature: The logits are divided by it; above 0.
        top_p: Only the most probable tokens which together have this mass are drawn from, in
            (0, 1] (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751).
        samples: Replies per prompt.
        seed: Another seed gives other replies.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(
                f"temperature: expected more than 0, found {self.temperature}; for greedy replies "
                "leave sampling out"
            )
        if not 0 < self.top_p <= 1:
            raise InputError(
                f"top_p: expected a share in (0, 1], found {self.top_p}; 1 draws from all tokens"
            )
        if self.samples < 1:
            raise InputError(f"samples: expected at least 1, found {self.samples}")

    def stream(self, prompt: Sequence[int], sample: int) -> random.Random:
        """The random numbers of one reply, one per token."""
        return random.Random(f"{self.seed} {sample} {list(prompt)}")


def nucleus(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities of the tokens that may be drawn; 0 for the others.

    The kept set is the smallest that has at least the mass `top_p`; it is never empty.

    Args:
        logits: ``[R, V]``.
        temperature: The logits are divided by it; above 0.
        top_p: Mass of the kept set, in (0, 1].

    Returns:
        ``[R, V]``; the rows sum to the mass that is kept, not to 1.
    """
    probabilities = (logits / temperature).softmax(-1)
    if top_p >= 1:
        return probabilities
    ordered, tokens = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, tokens, before >= top_p)
    return probabilities.masked_fill(dropped, 0.0)


def draw(masses: Tensor, uniforms: Tensor) -> Tensor:
    """One token per row, by the inverse of the cumulative distribution.

    Args:
        masses: ``[R, V]``, not negative; rows need not sum to 1.
        uniforms: ``[R]``, in [0, 1].

    Returns:
        ``[R]`` int64 tokens, none with mass 0.
    """
    cumulative = masses.cumsum(-1)
    total = cumulative[:, -1]
    threshold = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]


class Sampler(LogitsProcessor):
    """Turns greedy search into sampling: the token drawn is the only one left to choose.

    Args:
        sampling: How to draw.
        streams: The random numbers of each row of the batch.
    """

    def __init__(self, sampling: Sampling, streams: Sequence[random.Random]) -> None:
        self.sampling = sampling
        self.streams = streams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``[R, V]`` that are 0 for the drawn token and minus infinity for all others."""
        masses = nucleus(scores, self.sampling.temperature, self.sampling.top_p)
        numbers = [stream.random() for stream in self.streams]
        uniforms = torch.tensor(numbers, dtype=masses.dtype, device=masses.device)
        drawn = draw(masses, uniforms)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn[:, None], 0.0)
