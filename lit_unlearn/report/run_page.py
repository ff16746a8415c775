"""``report.html``: one page that needs nothing else, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lit_unlearn.report.html import fold, page, picture, table
from lit_unlearn.report.run_pictures import (
    cosine_figure,
    heatmap_figure,
    loss_figure,
    norm_figure,
    rates_figure,
)
from lit_unlearn.report.run_records import AnswerRecord, Change, RunFacts, changes, summarise
from lit_unlearn.report.run_summary import ABSENT, ARROW, COLUMNS, cell, shown
from lit_unlearn.utils.files import write_text

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
    """Writes the page, all at once or not at all.

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
    parts = [
        _head(facts, both),
        _results(both, before, after),
        _gradients(gradients),
        _gate(gate),
        _samples(both, before, after),
        _files(facts),
        fold("Configuration", f"<pre>{escape(config)}</pre>") if config else "",
    ]
    write_text(Path(path), page("lit-unlearn report", parts))


# ---------------------------------------------------------------------------------- sections


def _head(facts: RunFacts, both: Sequence[Change]) -> str:
    """Title, the run in one line, and one card per objective."""
    minutes, seconds = divmod(round(facts.seconds), 60)
    line = (
        f"{facts.model} \u00b7 {facts.steps} steps \u00b7 seed {facts.seed} \u00b7 "
        f"{minutes} min {seconds} s on {facts.device}"
    )
    cards = "".join(_card(change) for change in both)
    return (
        f"<h1>What the model forgot, and what it kept</h1><p>{escape(line)}</p>"
        f'<div class="cards">{cards}</div>'
    )


def _card(change: Change) -> str:
    """The objective's first measured figure, large, and its refusals."""
    measured = change.after or change.before
    scored = measured is not None and measured.correct_rate is not None
    key, name = ("correct_rate", "correct answers") if scored else ("rouge_l", "ROUGE-L")
    return (
        f'<div class="card"><h3>{escape(change.label)}</h3>'
        f'<p class="figure">{shown(change.before, key)} <span>{ARROW}</span> '
        f"{shown(change.after, key)}</p><p>{name}</p>"
        f"<p>refusals {cell(change, 'refusal_rate')}</p></div>"
    )


def _results(
    both: Sequence[Change], before: Sequence[AnswerRecord], after: Sequence[AnswerRecord]
) -> str:
    if not both:
        return "<h2>Before and after</h2><p>No evaluation rows were answered in this run.</p>"
    headings = ("objective", "rows", *(heading for *_, heading in COLUMNS))
    rows = [(c.label, str(c.rows), *(cell(c, key) for key, *_ in COLUMNS)) for c in both]
    bars = picture(
        rates_figure(summarise(before), summarise(after)), "Correct answers and refusals"
    )
    note = (
        "A refusal is no proof of forgetting: compare the likelihood of the gold answer, and the "
        "prefilled rows, in which an attacker has begun the answer."
    )
    return f"<h2>Before and after</h2>{table(headings, rows)}<p>{note}</p>{bars}"


def _gradients(records: Sequence[dict[str, Any]]) -> str:
    if not records:
        return ""
    figures = [
        (loss_figure(records), "Loss of each objective over the steps"),
        (norm_figure(records), "Gradient norm of each objective over the steps"),
    ]
    if len(records[0]["objectives"]) > 1:
        figures[:0] = [
            (cosine_figure(records), "Cosine of each pair of objectives' gradients over the steps"),
            (heatmap_figure(records), "Cosine of gradients per layer group and pair"),
        ]
    pictures = "".join(picture(figure, title) for figure, title in figures)
    return f"<h2>How the objectives fought</h2>{pictures}"


def _gate(gate: ReportTable | None) -> str:
    if gate is None:
        return ""
    note = f"<p>{escape(gate.note)}</p>" if gate.note else ""
    return f"<h2>{escape(gate.title)}</h2>{table(gate.columns, gate.rows)}{note}"


def _samples(
    both: Sequence[Change], before: Sequence[AnswerRecord], after: Sequence[AnswerRecord]
) -> str:
    """For each objective some questions, spread evenly, with the replies before and after."""
    earlier = {(r.objective, r.example_id, r.prefill): r for r in before}
    folds = []
    for change in both:
        rows = [r for r in after if (r.objective, bool(r.prefill)) == _key(change)]
        chosen = [rows[i * len(rows) // SAMPLES] for i in range(SAMPLES)] if rows else []
        texts = []
        for row in dict.fromkeys(chosen):
            first = earlier.get((row.objective, row.example_id, row.prefill))
            begun = f"\n[begun for it: {row.prefill}]" if row.prefill else ""
            reply = first.generated if first else ABSENT
            texts.append((row.question + begun, row.gold or ABSENT, reply, row.generated))
        replies = table(("question", "gold answer", "before", "after"), texts)
        folds.append(fold(change.label, replies) if texts else "")
    return f"<h2>Replies before and after</h2>{''.join(folds)}" if any(folds) else ""


def _key(change: Change) -> tuple[str, bool]:
    return change.objective, change.prefilled


def _files(facts: RunFacts) -> str:
    rows = [*facts.paths.items(), *((name, value) for name, value in facts.versions.items())]
    if not rows:
        return ""
    return f"<h2>Files and versions</h2>{table(('what', 'where or which'), rows)}"
