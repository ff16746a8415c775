"""Estimate of the calls of a run before it makes them."""

from collections.abc import Sequence
from dataclasses import dataclass

from lit_unlearn.rewriting import prompts
from lit_unlearn.rewriting.drafts import RowSettings
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.questioner import Asker
from lit_unlearn.rewriting.source_texts import QA, SourceText

__all__ = ["Estimate", "estimate", "first_asks", "planned", "unanswered"]

_LETTERS_PER_TOKEN = 4.0
_USUAL = QA("q" * 60, "a" * 60)


@dataclass(frozen=True)
class Estimate:
    """Calls and tokens if all first replies have the requested form and all checks pass."""

    calls: int
    answered: int
    """Calls whose replies are in the journal; the figures below exclude them."""
    prompt_tokens: float
    reply_tokens: float
    """Largest number of tokens of all replies."""
    seconds: float | None
    """Time, at the speed of this model's replies in the journal; None before the first reply."""
    cost: float | None
    attempts: int
    """Factor for all figures if no reply has the requested form."""

    def __str__(self) -> str:
        """Return one line."""
        parts = [f"at most {self.calls:,} calls"]
        if self.answered:
            parts.append(f"{self.answered:,} of them answered before")
        parts.append(f"about {self.prompt_tokens:,.0f} prompt tokens")
        parts.append(f"at most {self.reply_tokens:,.0f} reply tokens")
        if self.seconds is not None:
            parts.append(f"about {self.seconds / 60:,.1f} min at the speed so far")
        if self.cost is not None:
            parts.append(f"cost at most {self.cost:.2f}")
        if self.attempts > 1:
            parts.append(f"up to {self.attempts} times that if replies lack the requested form")
        return ", ".join(parts)


def planned(
    forget: Sequence[SourceText], keep: Sequence[SourceText], settings: RowSettings
) -> list[tuple[Ask, int]]:
    """Return the requests of a run, each with the number of requests that it stands for.

    The texts of later stages are not known yet; a request of usual length stands for all of them.
    """
    asks = [(ask, 1) for ask in first_asks([*forget, *keep], settings)]
    if settings.model_checks:
        unwritten = [text for text in (*forget, *keep) if not text.is_ready]
        asks += [(prompts.judge(t, _USUAL), _most_questions(t, settings)) for t in unwritten]
    if settings.anchors:
        rows = sum(_most_questions(text, settings) for text in forget)
        asks.append((prompts.anchor(_USUAL, settings.anchors), rows))
        if settings.model_checks:
            asks.append((prompts.confirm(_USUAL), rows * settings.anchors))
    return asks


def first_asks(texts: Sequence[SourceText], settings: RowSettings) -> list[Ask]:
    """Return the requests that do not depend on replies: those to write and to rate."""
    unwritten = [text for text in texts if not text.is_ready]
    asks = [prompts.write(text, settings.questions) for text in unwritten]
    if settings.lowest_rating > 1:
        asks += [prompts.rate(text) for text in unwritten if text.domain == "passage"]
    return asks


def _most_questions(text: SourceText, settings: RowSettings) -> int:
    return 1 if text.is_ready or text.domain == "multiple_choice" else settings.questions


def unanswered(asks: Sequence[tuple[Ask, int]], asker: Asker) -> list[tuple[Ask, int]]:
    """Return the requests without a reply in the journal."""
    known = asker.journal.replies
    return [(ask, count) for ask, count in asks if asker.key(ask) not in known]


def estimate(asks: Sequence[tuple[Ask, int]], asker: Asker) -> Estimate:
    """Add up calls, tokens, time and cost of the `planned` requests without a reply."""
    opened = unanswered(asks, asker)
    calls = sum(count for _, count in opened)
    letters = sum(count * sum(len(turn.content) for turn in ask.turns) for ask, count in opened)
    prompt_tokens = letters / _LETTERS_PER_TOKEN
    reply_tokens = float(sum(count * ask.max_tokens for ask, count in opened))
    total = sum(count for _, count in asks)
    seconds = _seconds(asker, reply_tokens, calls)
    tokens = (prompt_tokens, reply_tokens)
    cost = asker.backend.cost(*tokens)
    return Estimate(total, total - calls, *tokens, seconds, cost, asker.attempts)


def _seconds(asker: Asker, reply_tokens: float, calls: int) -> float | None:
    """Return the seconds at the speed of earlier replies, but at least those of the rate limit."""
    least = asker.backend.least_seconds(calls)
    replies = asker.known()
    tokens = sum(r.reply_tokens or len(r.text) / _LETTERS_PER_TOKEN for r in replies)
    if not tokens:
        return least or None
    speed = sum(reply.seconds for reply in replies) / tokens
    return max(least, reply_tokens * speed / asker.backend.parallel)
