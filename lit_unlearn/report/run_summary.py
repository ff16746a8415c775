"""Figures before and after a run, by objective: a table on the terminal, and ``summary.json``."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.evaluation.suites.answers import PREFILLED
from lit_unlearn.models.reading_back import Comparison
from lit_unlearn.report.evaluation_table import ABSENT, Line, side_by_side
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.tables import add_row, table

__all__ = ["ARROW", "COLUMNS", "SCHEMA_VERSION", "UNITS", "Change", "RunFacts"]
__all__ += ["cell", "changes", "note_export", "shown", "summary_table", "write_summary"]

SCHEMA_VERSION = 1
"""Version of ``summary.json``; it increases when a key changes its name or meaning."""

UNITS = {
    "correct_rate": "share of rows with an accepted answer in the reply, 0 to 1",
    "rouge_l": "ROUGE-L recall of the gold answer, stemmed, mean over rows, 0 to 1",
    "refusal_rate": "share of rows declined, 0 to 1",
    "repetition": "share of a reply's 4-grams that it has written before, mean over rows, 0 to 1",
    "answer_nll": "nats per token of the gold answer, teacher-forced, mean over rows",
    "seconds": "wall seconds of the whole command",
}
COLUMNS = {
    "correct": ("correct_rate", "correct", "correct answers"),
    "refused": ("refusal_rate", "refused", "refusals"),
    "repetition": ("repetition", "repeated", "repetition"),
    "rouge_l_recall": ("rouge_l", "ROUGE-L", "ROUGE-L"),
    "answer_nll": ("answer_nll", "nats/token", "answer NLL (nats/token)"),
}
"""Score of the suite `Answers` -> key in ``summary.json``, and headings on the terminal and on a
page."""
ARROW = "\u2192"


@dataclass(frozen=True)
class RunFacts:
    """Facts about a training run, for the top of the report and for ``summary.json``."""

    model: str
    seed: int
    steps: int
    seconds: float
    """Wall seconds of the whole command."""
    device: str
    paths: Mapping[str, str] = field(default_factory=dict)
    """Paths by name, such as ``export``."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions by package."""


@dataclass(frozen=True)
class Change:
    """Figures of one objective, or of its prefilled rows, before and after a run."""

    group: str
    """Name of the group in the suite `Answers`."""
    lines: Mapping[str, Line]
    """Figures before and after, by score."""

    @property
    def prefilled(self) -> bool:
        """Whether the rows have a prefill."""
        return self.group.endswith(PREFILLED)

    @property
    def objective(self) -> str:
        """Name of the objective."""
        return self.group.removesuffix(PREFILLED)

    @property
    def label(self) -> str:
        """Name in tables and pictures."""
        return f"{self.objective} (prefilled)" if self.prefilled else self.objective

    @property
    def rows(self) -> int:
        """Number of rows after the run, or before it if nothing was measured after it."""
        return next(figure.count for figure in self.lines["refused"].cells[::-1] if figure)


def changes(before: EvaluationRecord, after: EvaluationRecord) -> list[Change]:
    """Pair the figures of both evaluations, in order of appearance."""
    groups: dict[str, dict[str, Line]] = {}
    for line in side_by_side({"before": before, "after": after}):
        group, _, score = line.name.rpartition("/")
        groups.setdefault(group, {})[score] = line
    return [Change(group, lines) for group, lines in groups.items()]


def summary_table(before: EvaluationRecord, after: EvaluationRecord) -> Table:
    """Make a table with one line per objective, its prefilled rows under it; cells "before->after".

    It fits into 80 columns if names have at most 16 letters.
    """
    headings = ["objective", "rows", *(heading for _, heading, _ in COLUMNS.values())]
    made = table(f"before {ARROW} after", headings, fixed=range(len(headings)))
    made.box, made.padding = SIMPLE_HEAD, 0
    previous = ""
    for change in changes(before, after):
        if previous and change.objective != previous:
            made.add_section()
        under = change.prefilled and change.objective == previous
        name = "  with prefill" if under else change.label
        cells = [cell(change, score).replace(f" {ARROW} ", ARROW) for score in COLUMNS]
        add_row(made, [name, str(change.rows), *cells])
        previous = change.objective
    return made


def cell(change: Change, score: str) -> str:
    """Return one figure before and after, as text."""
    return f" {ARROW} ".join(shown(figure) for figure in change.lines[score].cells)


def shown(figure: Figure | None) -> str:
    """Return one figure as text: shares of rows in percent, others with two decimals."""
    if figure is None or math.isnan(figure.value):
        return ABSENT
    rate = figure.name.endswith(("/correct", "/refused"))
    return f"{100 * figure.value:.0f} %" if rate else f"{figure.value:.2f}"


def write_summary(
    path: Path | str, before: EvaluationRecord, after: EvaluationRecord, facts: RunFacts
) -> None:
    """Write ``summary.json``.

    Its keys are ``schema_version``, ``units``, ``run`` (the fields of `RunFacts`) and
    ``objectives``, a list of ``objective``, ``prefilled``, ``before`` and ``after``; the last two
    have ``rows`` and the keys of `COLUMNS`. An export adds ``export``, see `note_export`. Missing
    and infinite values are ``null``.
    """
    run = {**vars(facts), "paths": dict(facts.paths), "versions": dict(facts.versions)}
    objectives = [
        {"objective": change.objective, "prefilled": change.prefilled}
        | {"before": _figures(change, 0), "after": _figures(change, 1)}
        for change in changes(before, after)
    ]
    content = {"schema_version": SCHEMA_VERSION, "units": UNITS, "run": run}
    content["objectives"] = objectives
    write_text(Path(path), json_text(content, indent=2) + "\n")


def note_export(path: Path, comparison: Comparison) -> None:
    """Add the comparison of the exported model with the trained one to a ``summary.json``.

    The key is ``export``; a missing file is not created.
    """
    if path.exists():
        content = json.loads(path.read_text("utf-8")) | {"export": vars(comparison)}
        write_text(path, json_text(content, indent=2) + "\n")


def _figures(change: Change, column: int) -> dict[str, Any] | None:
    figures = {key: change.lines[score].cells[column] for score, (key, *_) in COLUMNS.items()}
    refused = figures["refusal_rate"]
    if refused is None:
        return None
    return {"rows": refused.count} | {key: each.value for key, each in figures.items() if each}
