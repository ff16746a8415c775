"""Conditions of an evaluation: a context or a guard in front of a model with unchanged weights.

They are two rivals of every unlearned model. The ensemble teacher is the upper bound of training by
distillation: it knows of each row whether it should be forgotten. A prompt guard is the cheapest
rival. Neither is part of the weights, so attacks that change the weights meet the model without it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lit_unlearn.data.contexts import Context, ContextRow, Front, NoContext, declined_questions
from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import Probe, Subject, Suite
from lit_unlearn.metrics.functional.scores import is_correct, rouge_l_recall
from lit_unlearn.types import Turn
from lit_unlearn.utils.digests import text_digest

__all__ = ["Condition", "EnsembleTeacher", "PromptGuard"]
__all__ += ["behind", "condition_of", "measurable", "name_behind", "seen"]


class Condition(Front):
    """A context or a guard in front of a model under evaluation."""

    @abstractmethod
    def load(self, data_root: Path | None) -> None:
        """Read the rows that the settings name; called once, before the model is loaded."""

    @abstractmethod
    def key(self) -> str:
        """Return a text of everything that the condition depends on."""

    @abstractmethod
    def describe(self) -> str:
        """Return a short description for tables and folders."""

    def thinking(self, probe: Probe, forgotten: bool) -> tuple[tuple[Turn, ...], int] | None:
        """Return a conversation that asks for reasoning, and the most tokens; None for none."""
        return None

    def turns(self, probe: Probe, forgotten: bool, reasoning: str = "") -> tuple[Turn, ...]:
        """Return the conversation that the model sees instead of the probe's.

        Args:
            probe: The probe.
            forgotten: Whether its row should be forgotten.
            reasoning: Reply of the model to `thinking`.
        """
        return probe.turns

    def reply(self, turns: Sequence[Turn]) -> str | None:
        """Return a reply that the model does not write itself; None lets the model reply."""
        return None


def _refusal() -> str:
    return read_refusals("builtin")[0]


@dataclass
class EnsembleTeacher(Condition):
    """Every question under the context of its own objective, as the teacher in training sees it.

    A suite knows which of its rows should be forgotten. The context sees the question, other
    forgotten questions and answered rows, never the gold answer of a forgotten row. Texts to be
    continued without a conversation get no context.

    Args:
        forgotten: Context of the rows that should be forgotten; of several steps (`Adaptive`) the
            strongest.
        kept: Context of all other rows; null asks them alone.
        sources: Rows that should be forgotten, whose questions are declined in demonstrations.
        answered: Rows whose questions are answered in demonstrations.
        refusal: Sentence that declines in contexts.
    """

    forgotten: Context
    kept: Context | None = None
    sources: list[Source] = field(default_factory=list)
    answered: list[Source] = field(default_factory=list)
    refusal: str = field(default_factory=_refusal)

    def __post_init__(self) -> None:
        self._pool = ContextRow((), self.refusal)
        contexts = [c for c in (self.forgotten, self.kept) if c is not None]
        for name, given in (("declined", self.sources), ("answered", self.answered)):
            if not given and any(getattr(context, name, 0) for context in contexts):
                parameter = "sources" if name == "declined" else name
                raise InputError(
                    f"Parameter `{parameter}` of EnsembleTeacher should list the rows of "
                    f"demonstrations, as a context has `{name}`. Found none; add some, or set "
                    f"`{name}` to 0. A context alone has no rows: put it into an EnsembleTeacher."
                )

    def load(self, data_root: Path | None) -> None:
        declined = load_examples(self.sources, data_root) if self.sources else []
        answered = load_examples(self.answered, data_root) if self.answered else []
        pairs = [(row.question, row.answer) for row in answered if row.answer]
        self._pool = replace(self._pool, declined=declined_questions(declined), answered=pairs)

    def key(self) -> str:
        return f"{self!r} {self._pool!r}"

    def describe(self) -> str:
        return f"{self._context(True).describe()}, kept {self._context(False).describe()}"

    def thinking(self, probe: Probe, forgotten: bool) -> tuple[tuple[Turn, ...], int] | None:
        context = self._context(forgotten)
        if probe.plain or not context.reasoning_tokens:
            return None
        return context.thinking(self._row(probe)), context.reasoning_tokens

    def turns(self, probe: Probe, forgotten: bool, reasoning: str = "") -> tuple[Turn, ...]:
        if probe.plain:
            return probe.turns
        gold = [text for text in (probe.example.answer, *probe.example.accepted) if text.strip()]
        if forgotten and gold and is_correct(reasoning, gold):
            reasoning = ""
        row = replace(self._row(probe), reasoning=reasoning)
        return self._context(forgotten).conversation(row)

    def _row(self, probe: Probe) -> ContextRow:
        return replace(self._pool, turns=probe.turns)

    def _context(self, forgotten: bool) -> Context:
        return ((self.forgotten if forgotten else self.kept) or NoContext()).ladder()[-1]


@dataclass
class PromptGuard(Condition):
    """A rule in front of the model that declines prompts about the forgotten, and no others.

    The rule reads the user's turns alone. It declines if one of them contains a term, or the words
    of a forgotten question; then the reply is the refusal, whatever the beginning of the answer.
    The model's weights and likelihoods are what they were.

    Args:
        sources: Rows whose questions the guard knows.
        overlap: Least share of a known question's words that a turn contains in their order
            (ROUGE-L recall), above 0 and at most 1. Below 1, neighbours of the same form are
            declined too.
        terms: Words or names that are declined in every turn.
        refusal: Sentence with which the guard answers.
    """

    sources: list[Source] = field(default_factory=list)
    overlap: float = 1.0
    terms: list[str] = field(default_factory=list)
    refusal: str = field(default_factory=_refusal)

    def __post_init__(self) -> None:
        check_number("overlap", self.overlap, 0, 1, above=True)
        self._known: list[str] = []
        if not self.sources and not self.terms:
            raise InputError(
                "Parameters `sources` and `terms` of PromptGuard should say what is declined. "
                "Found neither; give one of them."
            )

    def load(self, data_root: Path | None) -> None:
        if self.sources:
            self._known = declined_questions(load_examples(self.sources, data_root))

    def key(self) -> str:
        return f"{self!r} {self._known!r}"

    def describe(self) -> str:
        return "prompt guard"

    def reply(self, turns: Sequence[Turn]) -> str | None:
        asked = [turn.content for turn in turns if turn.role == "user"]
        if self.terms and any(is_correct(text, self.terms) for text in asked):
            return self.refusal
        shares = (rouge_l_recall(known, text) for known in self._known for text in asked)
        return self.refusal if any(share >= self.overlap for share in shares) else None


def condition_of(given: Front, data_root: Path | None) -> Condition:
    """Return a condition with its rows loaded; a context stands before every question."""
    made = EnsembleTeacher(given, given) if isinstance(given, Context) else given
    if not isinstance(made, Condition):
        raise InputError(
            f"Parameter `context` should be a context or a condition. Found a "
            f"{type(made).__name__}; derive its class from `Context` or `Condition`."
        )
    made.load(data_root)
    return made


def seen(condition: Condition | None, suite: Suite, probes: Sequence[Probe]) -> list[Probe]:
    """Return the probes of a suite as the model sees them, without its reasoning."""
    if condition is None:
        return list(probes)
    return [replace(p, turns=condition.turns(p, suite.forgets(p.group))) for p in probes]


def name_behind(condition: Condition | None, name: str) -> str:
    """Return the name of a model in records, with the condition in front of it."""
    return name if condition is None else f"{name} under {condition.describe()}"


def behind(condition: Condition | None, subject: Subject) -> Subject:
    """Return a subject behind a condition, whose key is then part of its fingerprint."""
    if condition is None:
        return subject
    known = f"{subject.fingerprint} under {text_digest(condition.key())}"
    name = name_behind(condition, subject.name)
    return replace(subject, name=name, fingerprint=known, condition=condition)


def measurable(suites: Mapping[str, Suite]) -> tuple[Mapping[str, Suite], list[str]]:
    """Return the suites that a condition can stand before, and a sentence about each other one."""
    kept = {name: suite for name, suite in suites.items() if suite.takes_condition}
    left = [name for name in suites if name not in kept]
    if not kept:
        raise InputError(
            "Parameter `context` should stand before the questions of a suite. Found only suites "
            f"that read or optimise the model itself: {', '.join(left)}; name others."
        )
    said = "is left out: it reads the model itself, which no context or guard is part of."
    return kept, [f"Suite {name} {said}" for name in left]
