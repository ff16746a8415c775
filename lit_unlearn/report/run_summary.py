"""Before and after, per objective: the table on the terminal and ``summary.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lit_unlearn.report.run_records import Change, ObjectiveSummary, RunFacts, changes
from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.plain_json import json_text

SCHEMA_VERSION = 1
"""Of ``summary.json``; raised when a key changes its name or meaning."""

UNITS = {
    "correct_rate": "share of rows with an accepted answer in the reply, 0 to 1",
    "rouge_l": "ROUGE-L recall of the gold answer, stemmed, mean over rows, 0 to 1",
    "refusal_rate": "share of rows declined, 0 to 1",
    "repetition": "share of a reply's 4-grams that it has written before, mean over rows, 0 to 1",
    "answer_nll": "nats per token of the gold answer, teacher-forced, mean over rows",
    "seconds": "wall seconds of the whole command",
}
COLUMNS = (
    ("correct_rate", "correct", "correct answers"),
    ("refusal_rate", "refused", "refusals"),
    ("repetition", "repeated", "repetition"),
    ("rouge_l", "ROUGE-L", "ROUGE-L"),
    ("answer_nll", "nats/token", "answer NLL (nats/token)"),
)
"""Figures of the table: attribute of `ObjectiveSummary`, heading on the terminal and on a page."""
ABSENT = "\u2013"
ARROW = "\u2192"


def summary_table(before: Sequence[ObjectiveSummary], after: Sequence[ObjectiveSummary]) -> Table:
    """A table with one line per objective, its prefilled rows under it; cells "before->after".

    It fits into 80 columns where names have up to 16 letters.
    """
    table = Table(title="before \u2192 after", title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("objective", no_wrap=True)
    table.add_column("rows", justify="right")
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    narrow = f" {ARROW} ", ARROW
    previous = ""
    for change in changes(before, after):
        if previous and change.objective != previous:
            table.add_section()
        under = change.prefilled and change.objective == previous
        name = "  with prefill" if under else change.label
        cells = [cell(change, key).replace(*narrow) for key, *_ in COLUMNS]
        table.add_row(name, str(change.rows), *cells)
        previous = change.objective
    return table


def cell(change: Change, key: str) -> str:
    """One figure before and after, as text."""
    return f"{shown(change.before, key)} {ARROW} {shown(change.after, key)}"


def shown(summary: ObjectiveSummary | None, key: str) -> str:
    """One figure as text: rates in percent, the others with two decimals; a dash for none."""
    value = None if summary is None else getattr(summary, key)
    if value is None or math.isnan(value):
        return ABSENT
    return f"{100 * value:.0f} %" if key.endswith("_rate") else f"{value:.2f}"


def write_summary(
    path: Path | str,
    before: Sequence[ObjectiveSummary],
    after: Sequence[ObjectiveSummary],
    facts: RunFacts,
) -> None:
    """Writes ``summary.json``, all at once or not at all.

    Its keys: ``schema_version``, ``units``, ``run`` (the fields of `RunFacts`) and ``objectives``,
    a list of ``objective``, ``prefilled``, ``before`` and ``after`` with the fields of
    `ObjectiveSummary`. What was not measured, or is not finite, is ``null``.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "units": UNITS,
        "run": {**vars(facts), "paths": dict(facts.paths), "versions": dict(facts.versions)},
        "objectives": [_entry(change) for change in changes(before, after)],
    }
    write_text(Path(path), json_text(content, indent=2) + "\n")


def _entry(change: Change) -> dict[str, Any]:
    shared = {"objective": change.objective, "prefilled": change.prefilled}
    return {
        **shared,
        "before": _figures(change.before, shared),
        "after": _figures(change.after, shared),
    }


def _figures(summary: ObjectiveSummary | None, shared: dict[str, Any]) -> dict[str, Any] | None:
    """The fields that are not said one level above."""
    if summary is None:
        return None
    return {key: value for key, value in vars(summary).items() if key not in shared}
