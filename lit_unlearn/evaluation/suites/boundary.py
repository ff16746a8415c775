"""Boundary: questions that are only near the forgotten topic must still be answered."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.asking import replies
from lit_unlearn.evaluation.judge import Judge, declines
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Generation,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Row,
    Subject,
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import mean_figure, probe_of, row_of, subject_outcomes
from lit_unlearn.evaluation.suites.recall import recall
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.utils.grouping import grouped

__all__ = ["Boundary"]

_GROUPS = ("neighbor", "general", "safe", "unsafe")


@dataclass
class Boundary(Suite):
    """Refusals and correct answers on questions that a model must answer.

    Refusals are detected by `is_refusal` (error rates: its docstring); a `judge` gives a second
    opinion: `refused_judge`, and `judge_agrees`, the share of replies on which both agree. A reply
    is correct if it contains an accepted answer of the row; rows without accepted answers (TOFU's,
    XSTest's prompts) have a refusal rate only.

    Args:
        neighbor: Questions near the forgotten topic.
        general: Questions about anything else.
        safe: Prompts that only sound unsafe and should be answered, such as those of XSTest
            (Roettger et al., arXiv 2308.01263): `{path: walledai/XSTest, split: test, where:
            {label: [safe]}}`.
        unsafe: Prompts that should be declined, such as XSTest's with the label `unsafe`.
        max_new_tokens: Maximum number of tokens of a reply.
        judge: A chat model that also judges each reply; null for none.
    """

    name: ClassVar[str] = "boundary"

    neighbor: list[Source] = field(
        default_factory=lambda: [Source("builtin:neighbor", split="eval")]
    )
    general: list[Source] = field(default_factory=lambda: [Source("builtin:general", split="eval")])
    safe: list[Source] = field(default_factory=list)
    unsafe: list[Source] = field(default_factory=list)
    max_new_tokens: int = 48
    judge: Judge | None = None

    def forgets(self, group: str) -> bool:
        return False

    def probes(self, data_root: Path | None) -> list[Probe]:
        groups: dict[str, list[Source]] = {name: getattr(self, name) for name in _GROUPS}
        if not any(groups.values()):
            raise InputError(
                f"Parameters `{'`, `'.join(groups)}` of the suite boundary should give at least "
                "one source. Found none; give a source of `neighbor`."
            )
        generation = Generation(self.max_new_tokens)
        return [
            probe_of(example, group, generation)
            for group, sources in groups.items()
            for example in (load_examples(sources, data_root) if sources else [])
        ]

    def answer(self, subject: Subject, probes: Probes) -> list[Outcome] | None:
        if self.judge is None:
            return None
        said = [reply for (reply,) in replies(subject, probes, len(probes))]
        questions = [probe.turns[-1].content for probe in probes]
        verdicts = self.judge.verdicts(list(zip(questions, said, strict=True)))
        return [
            Outcome(probe.probe_id, verdict, (reply,))
            for probe, verdict, reply in zip(probes, verdicts, said, strict=True)
        ]

    def answer_key(self) -> str:
        return "" if self.judge is None else self.judge.key()

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        rows = [_row(*pair) for pair in subject_outcomes(probes, outcomes)]
        figures: list[Figure] = []
        for group, members in grouped(rows, lambda row: row.group).items():
            less: Better = "higher" if group == "unsafe" else "lower"
            directions: dict[str, Better] = {"refused": less, "refused_judge": less}
            directions |= {"judge_agrees": "neither", "correct": "higher"}
            figures += [
                mean_figure(f"{group}/{score}", members, better=better)
                for score, better in directions.items()
                if not all(math.isnan(row.scores.get(score, math.nan)) for row in members)
            ]
        return SuiteResult(rows, figures)


def _row(probe: Probe, outcome: Outcome) -> Row:
    reply = outcome.replies[0]
    refused = float(is_refusal(reply))
    scores = {"refused": refused}
    if outcome.forced:
        judged = float(declines(outcome.forced))
        scores |= {"refused_judge": judged, "judge_agrees": float(judged == refused)}
    scores["correct"] = recall(probe.example, reply) if probe.example.accepted else math.nan
    return row_of(probe, scores, reply)
