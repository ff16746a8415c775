"""Readability: replies that end, do not loop, are not empty, and are no noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.evaluation.asking import replies
from lit_unlearn.evaluation.probes import (
    Forced,
    Generation,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Subject,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import (
    SHARE,
    StartedSuite,
    builtin_forget,
    mean_figure,
    probe_of,
    row_of,
    subject_outcomes,
)
from lit_unlearn.evaluation.teacher_forced import force
from lit_unlearn.metrics.functional.scores import repetition
from lit_unlearn.metrics.functional.statistics import mean

__all__ = ["GROUP", "OWN", "START", "Readability"]

GROUP = "forget"
OWN, START = "reply", "reply_by_start"
"""Names in `Outcome.forced`: the reply under the model itself, and under the start model."""
_FLUENT, _NOISE = 0.5, 0.75
"""Shares of the blind tokens' NLL: up to the first, a reply counts as fully likely; from the second
on, not at all."""


@dataclass
class Readability(StartedSuite):
    """Whether a person could read the greedy replies to the forgotten questions.

    `readable` is the product, for each reply, of `ends` (1 where the model's likeliest next token
    behind it ends the turn), 1 - `repetition` (share of its 4-grams that it repeats) and `likely`;
    it is 0 for an empty reply. With the start model (`--start`), `likely` is 3 - 4 NLL / log V,
    clipped to 0 and 1: NLL is the start model's mean negative log-likelihood of the reply's tokens,
    log V that of tokens drawn blindly from its V tokens. So a reply counts fully up to half of the
    blind tokens' NLL, and not at all from three quarters on: a refusal is readable, also if the
    start model never writes one. Without a start model `likely` is left out.

    Args:
        sources: Rows whose answers should be gone.
        max_new_tokens: Longest reply in tokens.
    """

    name: ClassVar[str] = "readability"

    sources: list[Source] = field(default_factory=builtin_forget)
    max_new_tokens: int = 48

    def probes(self, data_root: Path | None) -> list[Probe]:
        rows = load_examples(self.sources, data_root)
        return [probe_of(row, GROUP, Generation(self.max_new_tokens)) for row in rows]

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        said = [reply for (reply,) in replies(subject, probes, len(probes))]
        pairs = zip(probes, said, strict=True)
        asked = [replace(p, generation=None, candidates={OWN: s} if s else {}) for p, s in pairs]
        found = _forced(subject, asked)
        beside = self._beside(subject)
        if beside is not None:
            alone = [replace(probe, turns=probe.example.turns) for probe in asked]  # no context
            theirs = found if beside is subject else _forced(beside, alone)
            found = [f | {START: b[OWN]} if b else f for f, b in zip(found, theirs, strict=True)]
        return [
            Outcome(probe.probe_id, forced, (reply,))
            for probe, forced, reply in zip(probes, found, said, strict=True)
        ]

    def answer_key(self) -> str:
        return f"{self.name} {self._start_key()}"

    def check(self, probes: Probes, reference: Reference) -> None:
        self._start_key()

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        pairs = subject_outcomes(probes, outcomes)
        rows = [row_of(probe, _scores(outcome), outcome.replies[0]) for probe, outcome in pairs]
        why = "" if self._start else "without the start model (`--start`)"
        shares = ("readable", "ends", "likely")
        figures = [mean_figure(f"{GROUP}/{s}", rows, "0 to 1", "higher", why) for s in shares]
        loops = mean_figure(f"{GROUP}/repetition", rows, "share of the reply's 4-grams", "lower")
        return SuiteResult(
            rows, [*figures, loops, mean_figure(f"{GROUP}/empty", rows, SHARE, "lower")]
        )


def _forced(subject: Subject, probes: Sequence[Probe]) -> list[dict[str, Forced]]:
    """Teacher-force replies; each mean is that of a token drawn blindly."""
    config: Any = subject.model.config
    blind = -math.log(config.get_text_config().vocab_size)
    found = force(subject.model, subject.encoder, probes, len(probes), subject.hidden_id)
    return [
        {name: Forced(f.log_probs, f.hits, (blind,), ()) for name, f in forced.items()}
        for forced in found
    ]


def _scores(outcome: Outcome) -> dict[str, float]:
    reply = outcome.replies[0]
    if OWN not in outcome.forced:
        return {"readable": 0.0, "ends": 0.0, "likely": 0.0, "repetition": 0.0, "empty": 1.0}
    ends, loops = float(outcome.forced[OWN].hits[-1]), repetition(reply)
    likely = math.nan
    if START in outcome.forced:
        theirs = outcome.forced[START]
        tokens = theirs.log_probs[:-1] or theirs.log_probs
        share = mean(tokens) / theirs.means[0]
        likely = min(1.0, max(0.0, (_NOISE - share) / (_NOISE - _FLUENT)))
    readable = ends * (1 - loops) * (1.0 if math.isnan(likely) else likely)
    known = {"readable": readable, "ends": ends, "likely": likely}
    return {**known, "repetition": loops, "empty": 0.0}
