"""``report.html``: one page that needs nothing else, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lit_unlearn.report.html import write_page
from lit_unlearn.report.run_pictures import (
    cosine_figure,
    heatmap_figure,
    loss_figure,
    norm_figure,
    rates_figure,
)
from lit_unlearn.report.run_records import AnswerRecord, Change, RunFacts, changes, summarise
from lit_unlearn.report.run_summary import ABSENT, ARROW, COLUMNS, cell, shown
from lit_unlearn.utils.spread import evenly_spread

SAMPLES = 8
"""Most replies shown per objective, and as many again with prefills."""


@dataclass(frozen=True)
class ReportTable:
    """A further table of the page, such as that of the teacher gate; all texts plain."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def write_report(
    path: Path | str,
    *,
    facts: RunFacts,
    before: Sequence[AnswerRecord],
    after: Sequence[AnswerRecord],
    gradients: Sequence[dict[str, Any]] = (),
    gate: ReportTable | None = None,
    config: str = "",
) -> None:
    """Write the page, all at once or not at all.

    Args:
        path: The HTML file.
        facts: What the run was.
        before: Replies of the start model.
        after: Replies of the trained model to the same questions.
        gradients: Diagnosed steps as `read_gradients` gives them; may be empty.
        gate: The teacher gate's table; None where no objective has a teacher.
        config: The configuration as text (YAML).
    """
    both = changes(summarise(before), summarise(after))
    title = "Correct answers and refusals"
    values = {
        "title": "lit-unlearn report",
        "run": _run(facts),
        "arrow": ARROW,
        "cards": [_card(change) for change in both],
        "columns": ("objective", "rows", *(heading for *_, heading in COLUMNS)),
        "results": [(c.label, c.rows, *(cell(c, key) for key, *_ in COLUMNS)) for c in both],
        "rates": {title: rates_figure(summarise(before), summarise(after))} if both else {},
        "gradients": _gradients(gradients),
        "gate": gate,
        "samples": _samples(both, before, after),
        "files": [*facts.paths.items(), *facts.versions.items()],
        "config": config,
    }
    write_page(Path(path), "run", values)


def _run(facts: RunFacts) -> str:
    minutes, seconds = divmod(round(facts.seconds), 60)
    return (
        f"{facts.model} \u00b7 {facts.steps} steps \u00b7 seed {facts.seed} \u00b7 "
        f"{minutes} min {seconds} s on {facts.device}"
    )


def _card(change: Change) -> dict[str, str]:
    """Return the objective's first measured figure and its refusals, as texts."""
    measured = change.after or change.before
    scored = measured is not None and measured.correct_rate is not None
    key, name = ("correct_rate", "correct answers") if scored else ("rouge_l", "ROUGE-L")
    return {
        "title": change.label,
        "figure": name,
        "before": shown(change.before, key),
        "after": shown(change.after, key),
        "refusals": cell(change, "refusal_rate"),
    }


def _gradients(records: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Draw losses and norms, and the cosines where there are two objectives; title -> figure."""
    if not records:
        return {}
    figures: dict[str, Figure] = {}
    if len(records[0]["objectives"]) > 1:
        figures = {
            "Cosine of each pair of objectives' gradients over the steps": cosine_figure(records),
            "Cosine of gradients per layer group and pair": heatmap_figure(records),
        }
    return figures | {
        "Loss of each objective over the steps": loss_figure(records),
        "Gradient norm of each objective over the steps": norm_figure(records),
    }


def _samples(
    both: Sequence[Change], before: Sequence[AnswerRecord], after: Sequence[AnswerRecord]
) -> dict[str, list[tuple[str, ...]]]:
    """Choose some questions of each objective, with the replies before and after."""
    earlier = {(r.objective, r.example_id, r.prefill): r.generated for r in before}
    found: dict[str, list[tuple[str, ...]]] = {}
    for change in both:
        key = change.objective, change.prefilled
        rows = [row for row in after if (row.objective, bool(row.prefill)) == key]
        texts: list[tuple[str, ...]] = []
        for row in evenly_spread(rows, SAMPLES):
            begun = f"\n[begun for it: {row.prefill}]" if row.prefill else ""
            reply = earlier.get((row.objective, row.example_id, row.prefill), ABSENT)
            texts.append((row.question + begun, row.gold or ABSENT, reply, row.generated))
        if texts:
            found[change.label] = texts
    return found
