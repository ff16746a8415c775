"""Models that reply to questions: the interface of `local` and `server`, and no model at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from lit_unlearn.rewriting.journal import Reply
from lit_unlearn.rewriting.prompts import Ask

__all__ = ["RETRY_TEMPERATURE", "Backend", "Rules"]

RETRY_TEMPERATURE = 0.7
"""Temperature of all attempts but the first, which is greedy; each has its own seed."""


class Backend(ABC):
    """A language model that replies to questions."""

    parallel: int = 1
    """Number of questions that are answered at a time."""
    proven: bool = False
    """Whether it has ever replied, so that a refusal is due to the question and not to settings."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model, for people and for provenance."""

    @abstractmethod
    def identity(self) -> str:
        """Return everything but the question that decides a reply; refuse a missing model."""

    @abstractmethod
    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        """Yield replies by the index of their question as they come, each index at most once.

        A question that the model cannot take (too long, refused) gets no reply. `attempt` is the
        number of earlier attempts; another attempt gives another reply.

        Raises:
            InputError: The model cannot be used.
        """

    def cost(self, prompt_tokens: float, reply_tokens: float) -> float | None:
        """Return the cost of some tokens, or None where no prices are set."""
        return None

    def least_seconds(self, calls: int) -> float:
        """Return the least time of some calls under a limit on their rate."""
        return 0.0


class Rules(Backend):
    """No model: everything is made by rule."""

    name = "rules"

    def identity(self) -> str:
        return ""

    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        return iter(())
