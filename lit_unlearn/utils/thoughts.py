"""Thoughts of models that think: a limit on their length, and their end in a reply."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import LogitsProcessor

__all__ = ["ThoughtLimit", "Thoughts"]


@dataclass(frozen=True)
class Thoughts:
    """Token ids around the thoughts that a model writes."""

    opening: tuple[int, ...]
    """End of a prompt after which the model thinks; after any other prompt it answers."""
    mark: tuple[int, ...]
    """Ids that end the thoughts."""
    closing: tuple[int, ...]
    """Ids of the mark with the white space after it."""

    def follow(self, prompt: Sequence[int]) -> bool:
        """Return whether the model thinks after a prompt."""
        return tuple(prompt[-len(self.opening) :]) == self.opening

    def end(self, reply: Sequence[int]) -> int:
        """Return the index after the mark in a reply, or -1."""
        size = len(self.mark)
        starts = range(len(reply) - size + 1)
        return next((i + size for i in starts if tuple(reply[i : i + size]) == self.mark), -1)


class ThoughtLimit(LogitsProcessor):
    """Logits processor that ends thoughts after `most` tokens; no reply ends within thoughts.

    `rows` says of each row of the batch whether it thinks. `start` is the number of tokens before
    the replies, padding included; `ends` are the ids that end a reply.
    """

    def __init__(
        self, thoughts: Thoughts, rows: Sequence[bool], start: int, most: int, ends: Sequence[int]
    ) -> None:
        self.thoughts = thoughts
        self.rows = [row for row, thinks in enumerate(rows) if thinks]
        self.start = start
        self.most = most
        self.ends = list(ends)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores ``[R, V]`` that allow only the closing if it is due, and no end before."""
        place = input_ids.shape[1] - self.start - self.most
        for row in self.rows:
            reply = input_ids[row, self.start :].tolist()
            if self.thoughts.end(reply[: self.most]) >= 0 or place >= len(self.thoughts.closing):
                continue
            wanted = [self.thoughts.closing[place]] if place >= 0 else self.ends
            kept = scores[row, wanted]
            if place >= 0:
                scores[row] = -math.inf
                scores[row, wanted] = kept.nan_to_num(neginf=0.0)
            else:
                scores[row, wanted] = -math.inf
        return scores
