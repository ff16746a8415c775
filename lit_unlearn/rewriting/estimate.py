"""What a run will ask at most, before it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lit_unlearn.rewriting import prompts
from lit_unlearn.rewriting.drafts import RowSettings
from lit_unlearn.rewriting.material import QA, Material
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.questioner import Asker

_LETTERS_PER_TOKEN = 4.0
_USUAL = QA("q" * 60, "a" * 60)


@dataclass(frozen=True)
class Estimate:
    """Calls and tokens if every reply has its form at once and every question passes its checks."""

    calls: int
    answered: int
    """Of them, those that the journal is known to hold; not in the figures below."""
    prompt_tokens: float
    reply_tokens: float
    """At most: as many as a reply may have."""
    seconds: float | None
    """By the speed of this model's replies in the journal; None before the first."""
    cost: float | None
    attempts: int
    """So many times as much it is at most, if replies lack their form."""

    def __str__(self) -> str:
        """One line."""
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
            parts.append(f"up to {self.attempts} times that where replies lack their form")
        return ", ".join(parts)


def planned(
    forget: Sequence[Material], keep: Sequence[Material], settings: RowSettings
) -> list[tuple[Ask, int]]:
    """Every question that can be foreseen, and how often one like it is asked.

    The texts of later stages are not known yet; of these one of usual length stands for all.
    """
    asks = [(ask, 1) for ask in first_asks([*forget, *keep], settings)]
    if settings.model_checks:
        unwritten = [material for material in (*forget, *keep) if not material.is_ready]
        asks += [(prompts.judge(m, _USUAL), _most_questions(m, settings)) for m in unwritten]
    if settings.anchors:
        rows = sum(_most_questions(material, settings) for material in forget)
        asks.append((prompts.anchor(_USUAL, settings.anchors), rows))
        if settings.model_checks:
            asks.append((prompts.confirm(_USUAL), rows * settings.anchors))
    return asks


def first_asks(materials: Sequence[Material], settings: RowSettings) -> list[Ask]:
    """The questions that do not depend on replies: all of writing, and of rating."""
    unwritten = [material for material in materials if not material.is_ready]
    asks = [prompts.write(material, settings.questions) for material in unwritten]
    if settings.lowest_rating > 1:
        asks += [prompts.rate(m) for m in unwritten if m.domain == "passage"]
    return asks


def _most_questions(material: Material, settings: RowSettings) -> int:
    return 1 if material.is_ready or material.domain == "multiple_choice" else settings.questions


def estimate(asks: Sequence[tuple[Ask, int]], asker: Asker) -> Estimate:
    """Add up what is open.

    Args:
        asks: See `planned`.
        asker: Knows the model and the journal.
    """
    known = asker.journal.replies
    opened = [(ask, count) for ask, count in asks if asker.key(ask) not in known]
    calls = sum(count for _, count in opened)
    letters = sum(count * sum(len(turn.content) for turn in ask.turns) for ask, count in opened)
    prompt_tokens = letters / _LETTERS_PER_TOKEN
    reply_tokens = float(sum(count * ask.max_tokens for ask, count in opened))
    total = sum(count for _, count in asks)
    backend = asker.backend
    return Estimate(
        total,
        total - calls,
        prompt_tokens,
        reply_tokens,
        _seconds(asker, reply_tokens, calls),
        backend.cost(prompt_tokens, reply_tokens),
        asker.attempts,
    )


def _seconds(asker: Asker, reply_tokens: float, calls: int) -> float | None:
    """By seconds per reply token so far, and the limit on the rate of calls."""
    least = asker.backend.least_seconds(calls)
    replies = asker.known()
    tokens = sum(r.reply_tokens or len(r.text) / _LETTERS_PER_TOKEN for r in replies)
    if not tokens:
        return least or None
    speed = sum(reply.seconds for reply in replies) / tokens
    return max(least, reply_tokens * speed / asker.backend.parallel)
