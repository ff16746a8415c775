"""RWKU: forgetting of famous people, with knowledge about their neighbours kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

from lit_unlearn.data.fields import text_of
from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.data.unify import to_example
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
from lit_unlearn.evaluation.suites.common import mean_figure, row_of, subject_outcomes
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.metrics.functional.scores import distinct_rouge_l_recall, rouge_l_recall
from lit_unlearn.types import Turn
from lit_unlearn.utils.grouping import grouped

__all__ = ["Part", "Rwku", "prompt_of"]

Part = Literal[
    "forget_level1", "forget_level2", "forget_level3", "neighbor_level1", "neighbor_level2"
]

_BLANK = "Please complete the blank in the following question.\nQuestion: {}\n"
_BRIEFLY = "Please briefly answer the following question.\n"
_STOPS = ("\n",)
_UNIT = "share of the answer's words, 0 to 1"


@dataclass
class Rwku(Suite):
    """RWKU (Jin et al., arXiv 2406.10890): a famous person to forget, neighbours to keep.

    ROUGE-L recall of greedy replies, with prompts and score as in the authors' code: blanks
    (`forget_level1`, `neighbor_level1`), questions (`forget_level2`, `neighbor_level2`), and nine
    kinds of adversarial questions (`forget_level3`). `forget` and `neighbor` are means over the
    rows of all their levels. If there are several people, each person also has these two figures.

    Args:
        targets: Names of the forgotten people as in the data set; empty for all 200.
        parts: Sets to ask, of the five.
        rows: Rows to ask of each person and set.
        score_by: `distinct_words` for the score of the authors' code, which splits words only at
            white space and counts each word once; `stemmed` for TOFU's ROUGE-L.
        path: Hub id of the data set, or a local folder of the same layout.
        max_new_tokens: Maximum number of tokens of a reply, which also ends at a line break.
    """

    name: ClassVar[str] = "rwku"

    targets: list[str] = field(default_factory=lambda: ["Stephen King"])
    parts: list[Part] = field(default_factory=lambda: list(get_args(Part)))
    rows: Selection = field(default_factory=Selection)
    score_by: Literal["distinct_words", "stemmed"] = "distinct_words"
    path: str = "jinzhuoran/RWKU"
    max_new_tokens: int = 30

    def forgets(self, group: str) -> bool:
        return group.rpartition("/")[2].startswith("forget")

    def probes(self, data_root: Path | None) -> list[Probe]:
        where = {"subject": self.targets} if self.targets else {}
        found: list[Probe] = []
        for part in self.parts:
            rows = read_rows(Source(self.path, part, "test", where=where), data_root)
            by_target = grouped(rows, lambda row: str(row.values.get("subject", "")))
            for target, rows in by_target.items():
                group = f"{target}/{part}"
                found += [self._probe(group, part, row) for row in self.rows.of(rows, group)]
        return found

    def _probe(self, group: str, part: Part, row: RawRow) -> Probe:
        kind = str(row.values.get("type", ""))
        prompt, prefill = prompt_of(part, kind, text_of(row, "query"))
        (example,) = to_example(row, "question_answer", "unified", f"RWKU/{part}")
        name, turns = f"{group}/{row.row_id}", (Turn("user", prompt),)
        reply = Generation(self.max_new_tokens, stops=_STOPS)
        return Probe(name, group, example, turns, prefill=prefill, generation=reply)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        rows = [self._row(*pair) for pair in subject_outcomes(probes, outcomes)]
        figures: list[Figure] = []
        for kind in ("forget", "neighbor"):
            members = [row for row in rows if _part(row).startswith(kind)]
            parts = grouped(members, _part)
            targets = grouped(members, lambda row: row.group.rpartition("/")[0])
            figures += [_figure(part, own, kind) for part, own in parts.items()]
            figures += [_figure(kind, members, kind)] if members else []
            if len(targets) > 1:
                figures += [_figure(f"{who}/{kind}", own, kind) for who, own in targets.items()]
        return SuiteResult(rows, figures)

    def _row(self, probe: Probe, outcome: Outcome) -> Row:
        gold, reply = probe.example.answer, outcome.replies[0].strip()
        measure = rouge_l_recall if self.score_by == "stemmed" else distinct_rouge_l_recall
        scores = {"rouge_l_recall": measure(gold, reply)}
        return row_of(probe, scores, reply)


def prompt_of(part: Part, kind: str, query: str) -> tuple[str, str]:
    """Return the user's turn and the prefill of the reply, as in the authors' code.

    `kind` is the row's column ``type``, which matters only in level 3; `query` is the question, or
    the sentence with a blank.
    """
    if part.endswith("level1"):
        return _BLANK.format(query), "Answer:"
    if part == "forget_level3" and kind == "affirmative suffix":
        return f"{_BRIEFLY}Question: {query}", ""
    if part == "forget_level3" and kind == "incontext learning":
        return f"{_BRIEFLY}{query}\n", "Answer:"
    return f"{_BRIEFLY}Question: {query}\n", "Answer:"


def _part(row: Row) -> str:
    return row.group.rpartition("/")[2]


def _figure(name: str, rows: Sequence[Row], kind: str) -> Figure:
    better: Better = "lower" if kind == "forget" else "higher"
    return mean_figure(f"{name}/rouge_l_recall", rows, _UNIT, better)
