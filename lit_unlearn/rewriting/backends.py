"""Interface of the models that reply to questions, and `Rules`, which uses no model."""

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
    """Whether the model has replied before: a refusal is then due to the question, not settings."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model, for messages and provenance."""

    @abstractmethod
    def identity(self) -> str:
        """Return a text of all that decides a reply, except the question; find the model."""

    @abstractmethod
    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        """Yield replies by the index of their question as they come, each index at most once.

        A question that the model cannot take (too long, refused) gets no reply. `attempt` is the
        number of earlier attempts; another attempt gives another reply.

        Raises:
            InputError: The model cannot be used.
        """

    def cost(self, prompt_tokens: float, reply_tokens: float) -> float | None:
        """Return the cost of some tokens, or None if no prices are set."""
        return None

    def least_seconds(self, calls: int) -> float:
        """Return the shortest time of some calls under a rate limit, in seconds."""
        return 0.0


class Rules(Backend):
    """No model: all rows are made by rule."""

    name = "rules"

    def identity(self) -> str:
        return ""

    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        return iter(())
