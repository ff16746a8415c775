"""Answers: the evaluation rows of each objective, with and without a prefill."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch

from lit_unlearn.data.prefills import read_openers
from lit_unlearn.errors import InputError
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
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import SHARE, mean_figure, probe_of, subject_outcomes
from lit_unlearn.metrics.functional.likelihood import mean_nll_per_row
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.scores import is_correct, repetition, rouge_l_recall
from lit_unlearn.types import Example
from lit_unlearn.utils.grouping import grouped
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.plain_json import json_text

__all__ = ["PREFILLED", "SCORES", "Answers", "answer_figures", "read_answers", "write_answers"]

PREFILLED = "/prefilled"
"""Suffix of the name of a group whose rows have a prefill."""

_READINGS: dict[str, tuple[str, Better]] = {
    "correct": (SHARE, "neither"),
    "refused": (SHARE, "neither"),
    "repetition": ("share of the reply's 4-grams, 0 to 1", "lower"),
    "rouge_l_recall": ("share of the answer's words, 0 to 1", "neither"),
    "answer_nll": ("nats per token", "neither"),
}
"""Score -> unit and better direction."""
SCORES = tuple(_READINGS)
"""Scores of every group of rows."""


class Answers(Suite):
    """Correct answers, refusals and likelihoods of the rows of a training run.

    Each objective is a group of rows. If it has openers, the group `<objective>/prefilled` holds
    the same rows with an opener as prefill. The callback `AnswerEvaluation` creates this suite from
    the rows of its run; a config cannot name it.

    Args:
        rows: Objective -> rows.
        prefills: Objective -> openers (see `read_openers`); None for none. Row i gets opener
            i mod n.
        max_new_tokens: Maximum number of tokens of a reply.
    """

    name: ClassVar[str] = "answers"

    def __init__(
        self,
        rows: Mapping[str, Sequence[Example]],
        prefills: Mapping[str, Sequence[str] | str | None],
        max_new_tokens: int = 32,
    ) -> None:
        self.max_new_tokens = max_new_tokens
        self._rows = rows
        self._openers = {name: read_openers(given) for name, given in prefills.items() if given}

    def probes(self, data_root: Path | None) -> list[Probe]:
        found = []
        for objective, rows in self._rows.items():
            found += [self._probe(row, objective) for row in rows]
            if openers := self._openers.get(objective):
                found += [
                    self._probe(row, f"{objective}{PREFILLED}", openers[number % len(openers)])
                    for number, row in enumerate(rows)
                ]
        return found

    def _probe(self, row: Example, group: str, prefill: str = "") -> Probe:
        """Return a probe that truncates a row that is too long, as training does."""
        candidates = {"answer": row.answer} if row.answer.strip() else {}
        generation = Generation(self.max_new_tokens)
        return replace(probe_of(row, group, generation, candidates, prefill=prefill), cut=True)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        rows = [_row(probe, outcome) for probe, outcome in subject_outcomes(probes, outcomes)]
        return SuiteResult(rows, answer_figures(rows))


def answer_figures(rows: Sequence[Row]) -> list[Figure]:
    """Return the five figures of each group, each a mean over the rows that have the score."""
    return [
        mean_figure(f"{group}/{score}", members, *reading)
        for group, members in grouped(rows, lambda row: row.group).items()
        for score, reading in _READINGS.items()
    ]


def _row(probe: Probe, outcome: Outcome) -> Row:
    example, (reply,) = probe.example, outcome.replies
    nll = math.nan
    if "answer" in outcome.forced:
        log_probs = torch.tensor(outcome.forced["answer"].log_probs)
        one_row = torch.zeros(len(log_probs), dtype=torch.int64)
        nll = float(mean_nll_per_row(log_probs, one_row, 1))
    scores = {
        "correct": float(is_correct(reply, example.accepted)) if example.accepted else math.nan,
        "refused": float(is_refusal(reply)),
        "repetition": repetition(reply),
        "rouge_l_recall": rouge_l_recall(example.answer, reply) if example.answer else math.nan,
        "answer_nll": nll,
    }
    asked = _shown(example.question, probe.prefill)
    return Row(probe.probe_id, probe.group, scores, asked, example.answer, reply)


def _shown(question: str, prefill: str) -> str:
    return f"{question}\n[begun for it: {prefill}]" if prefill else question


# ------------------------------------------------------------------------------------------ files


def write_answers(path: Path, probes: Sequence[Probe], rows: Sequence[Row]) -> None:
    """Write one JSON line per row; `rows` has the order of `probes`.

    Keys: ``objective``, ``example_id``, ``prefill`` (empty for none), ``question``, ``gold`` (empty
    for none), ``generated`` (without the prefill), ``rouge_l``, ``correct``, ``refused`` and
    ``answer_nll`` in nats per token. A score that is not defined for a row is null.
    """
    lines = [json_text(_line(*pair)) + "\n" for pair in zip(probes, rows, strict=True)]
    write_text(path, "".join(lines))


def _line(probe: Probe, row: Row) -> dict[str, object]:
    correct = row.scores["correct"]
    return {
        "objective": probe.group.removesuffix(PREFILLED),
        "example_id": probe.example.example_id,
        "prefill": probe.prefill,
        "question": probe.example.question,
        "gold": row.gold,
        "generated": row.reply,
        "rouge_l": row.scores["rouge_l_recall"],
        "correct": None if math.isnan(correct) else bool(correct),
        "refused": bool(row.scores["refused"]),
        "answer_nll": row.scores["answer_nll"],
    }


def read_answers(path: Path) -> list[Row]:
    """Read the rows of a file that `write_answers` wrote.

    Raises:
        InputError: A line is damaged.
    """
    found = []
    for number, line in enumerate(path.read_text("utf-8", errors="replace").split("\n"), start=1):
        try:
            if line:
                found.append(_row_of(json.loads(line)))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: expected an answer that a run wrote, found {line[:60]!r} "
                f"({type(error).__name__}: {error}); delete the file"
            ) from None
    return found


def _row_of(line: Mapping[str, str | float | None]) -> Row:
    group = f"{line['objective']}{PREFILLED if line['prefill'] else ''}"
    question, prefill, reply = (str(line[key]) for key in ("question", "prefill", "generated"))
    rouge_l = line["rouge_l"] if line["gold"] else None
    values = (line["correct"], line["refused"], repetition(reply), rouge_l, line["answer_nll"])
    known = [math.nan if value is None else float(value) for value in values]
    scores, asked = dict(zip(SCORES, known, strict=True)), _shown(question, prefill)
    return Row(f"{group}/{line['example_id']}", group, scores, asked, str(line["gold"]), reply)
