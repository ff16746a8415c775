"""Knowledge of rows: recall in the replies, and probability of the answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lit_unlearn.data.answer_spans import span_tokens, spans_of
from lit_unlearn.evaluation.probes import (
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Row,
    Subject,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.answers import Answers
from lit_unlearn.evaluation.suites.common import subject_outcomes
from lit_unlearn.evaluation.teacher_forced import pieces_of
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.types import Example

__all__ = ["Known", "KnownAnswers", "known_of"]

_GROUP = "asked"
"""Group of the plain questions; the others have an opener."""
_SPAN = "span_probability"


@dataclass(frozen=True)
class Known:
    """Knowledge that a model has of rows."""

    recall: float
    """Mean recall of the replies, 0 to 1; see `known_of`."""
    probability: float
    """Mean probability of the answers' spans; NaN without gold answers."""

    def within(self, bounds: Known) -> bool:
        """Return whether both are at most those of the bounds."""
        likely = self.probability > bounds.probability  # never for NaN
        return self.recall <= bounds.recall and not likely


class KnownAnswers(Answers):
    """The suite `answers`, with the probability of the span of each answer.

    Args:
        rows: Rows to ask.
        openers: Openers, see `Answers`; None for plain questions alone.
        max_new_tokens: Largest number of tokens of a reply.
        subject: Model whose tokenizer finds the spans; None if only the questions are wanted.
    """

    def __init__(
        self,
        rows: Sequence[Example],
        openers: Sequence[str] | str | None,
        max_new_tokens: int,
        subject: Subject | None,
    ) -> None:
        super().__init__({_GROUP: rows}, {_GROUP: openers}, max_new_tokens)
        self._subject = subject

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        found = super().score(probes, outcomes, reference)
        pairs = zip(found.rows, subject_outcomes(probes, outcomes), strict=True)
        rows = [replace(row, scores={**row.scores, _SPAN: self._span(*p)}) for row, p in pairs]
        return SuiteResult(rows, found.figures)

    def _span(self, probe: Probe, outcome: Outcome) -> float:
        """Return the mean probability of a token of the answer's span, by the mean logarithm."""
        subject, forced = self._subject, outcome.forced.get("answer")
        if subject is None or forced is None:
            return math.nan
        ((answer,),) = (piece.answers for piece in pieces_of(subject.encoder, [probe], 1))
        text, spans = probe.candidates["answer"], spans_of(probe.example)
        places = span_tokens(subject.tokenizer, answer, text, spans)
        return math.exp(mean([forced.log_probs[place] for place in places]))


def known_of(rows: Sequence[Row]) -> Known:
    """Return the means over the rows of `KnownAnswers`; the probability over plain questions.

    The recall of a row is whether its reply contains an accepted answer. Of a row without accepted
    answers it is the reply's ROUGE-L recall, 0 for a refusal.
    """
    plain = [row.scores[_SPAN] for row in rows if row.group == _GROUP]
    likely = [value for value in plain if not math.isnan(value)]
    return Known(mean([_recall(row) for row in rows]), mean(likely))


def _recall(row: Row) -> float:
    correct = row.scores["correct"]
    if not math.isnan(correct):
        return correct
    return 0.0 if row.scores["refused"] else row.scores["rouge_l_recall"]
