"""Who is asked: what `local` and `server` have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from lit_unlearn.rewriting.journal import Reply
from lit_unlearn.rewriting.prompts import Ask

RETRY_TEMPERATURE = 0.7
"""The first attempt is greedy; the next ones draw at this temperature, each with its own seed."""


class Backend(ABC):
    """A language model that replies to questions; a constructor is its config."""

    parallel: int = 1
    """How many questions are answered at a time."""
    proven: bool = False
    """Whether it has ever replied, so that what it refuses is due to a question alone."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The model, for people and for provenance."""

    @abstractmethod
    def identity(self) -> str:
        """Everything but the question that decides a reply.

        Raises:
            InputError: There is no such model.
        """

    @abstractmethod
    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        """Replies by the index of their question, as they come; each index at most once.

        A question that this model cannot take (too long, refused) gets none.

        Args:
            asks: The questions.
            attempt: How often they were asked before; another attempt gives another reply.

        Raises:
            InputError: The model cannot be used.
        """

    def cost(self, prompt_tokens: float, reply_tokens: float) -> float | None:
        """What so many tokens cost, in the currency of the prices; None where none are set."""
        return None

    def least_seconds(self, calls: int) -> float:
        """How long so many calls take at least, by a limit on their rate."""
        return 0.0


class Rules(Backend):
    """No model: all is made by rule."""

    @property
    def name(self) -> str:
        """What stands for a model's name."""
        return "rules"

    def identity(self) -> str:
        """There is nothing to tell apart."""
        return ""

    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        """No reply to anything."""
        return iter(())
