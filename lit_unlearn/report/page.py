"""``report.html``: one page that needs nothing else, light or dark as the reader's system is."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from lit_unlearn.files import write_text
from lit_unlearn.report.pictures import (
    GRID,
    INK,
    cosine_figure,
    heatmap_figure,
    loss_figure,
    norm_figure,
    rates_figure,
)
from lit_unlearn.report.records import AnswerRecord, Change, RunFacts, changes, summarise
from lit_unlearn.report.summary import ABSENT, ARROW, COLUMNS, cell, shown

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
        _fold("Configuration", f"<pre>{escape(config)}</pre>") if config else "",
    ]
    write_text(Path(path), _PAGE.replace("{body}", "\n".join(part for part in parts if part)))


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
    headings = ("objective", "rows", *(heading for _, heading in COLUMNS))
    rows = [(c.label, str(c.rows), *(cell(c, key) for key, _ in COLUMNS)) for c in both]
    picture = _picture(
        rates_figure(summarise(before), summarise(after)), "Correct answers and refusals"
    )
    note = (
        "A refusal is no proof of forgetting: compare the likelihood of the gold answer, and the "
        "prefilled rows, in which an attacker has begun the answer."
    )
    return f"<h2>Before and after</h2>{_table(headings, rows)}<p>{note}</p>{picture}"


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
    pictures = "".join(_picture(figure, title) for figure, title in figures)
    return f"<h2>How the objectives fought</h2>{pictures}"


def _gate(gate: ReportTable | None) -> str:
    if gate is None:
        return ""
    note = f"<p>{escape(gate.note)}</p>" if gate.note else ""
    return f"<h2>{escape(gate.title)}</h2>{_table(gate.columns, gate.rows)}{note}"


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
        table = _table(("question", "gold answer", "before", "after"), texts)
        folds.append(_fold(change.label, table) if texts else "")
    return f"<h2>Replies before and after</h2>{''.join(folds)}" if any(folds) else ""


def _key(change: Change) -> tuple[str, bool]:
    return change.objective, change.prefilled


def _files(facts: RunFacts) -> str:
    rows = [*facts.paths.items(), *((name, value) for name, value in facts.versions.items())]
    if not rows:
        return ""
    return f"<h2>Files and versions</h2>{_table(('what', 'where or which'), rows)}"


# ------------------------------------------------------------------------------ building blocks


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _picture(figure: Figure, title: str) -> str:
    """The figure as inline SVG whose ink is the page's text colour and whose ids are its own."""
    buffer = io.StringIO()
    prefix = re.sub(r"\W+", "-", title.casefold())
    with matplotlib.rc_context({"svg.hashsalt": prefix, "svg.fonttype": "path"}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", facecolor="none", metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    label = escape(title, quote=True)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg role="img" aria-label="{label}" viewBox="\1" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
        count=1,
    )
    width = figure.get_figwidth() * 96
    return f'<figure style="max-width:{width:.0f}px">{svg}</figure>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>lit-unlearn report</title>
<style>
:root { --ground: #ffffff; --raised: #f4f5f7; --text: #1f2328; --quiet: #57606a; --line: #9aa0a6;
  --edge: #d8dce1; }
@media (prefers-color-scheme: dark) { :root { --ground: #16191d; --raised: #20252b;
  --text: #e6e9ed; --quiet: #a4acb5; --line: #78808a; --edge: #363d46; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; background: var(--ground);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { color: var(--quiet); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .8rem; }
.card { background: var(--raised); border-radius: 10px; padding: .8rem 1rem; }
.card h3 { font-size: .95rem; margin: 0; } .card p { margin: 0; font-size: .85rem; }
.card .figure { color: var(--text); font-size: 1.35rem; font-weight: 600; white-space: nowrap; }
.card .figure span { color: var(--quiet); font-weight: 400; }
.scroll { overflow: auto; max-height: 34rem; border: 1px solid var(--edge); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--raised); font-weight: 600; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem;
  border-bottom: 1px solid var(--edge); overflow-wrap: anywhere; white-space: pre-wrap; }
tbody tr:last-child td { border-bottom: 0; }
figure { margin: 1.2rem 0; } figure svg { width: 100%; height: auto; display: block; }
details { margin: .5rem 0; } summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
pre { background: var(--raised); border-radius: 8px; padding: 1rem; overflow: auto;
  max-height: 40rem; font-size: .85rem; }
</style>
</head>
<body>
{body}
</body>
</html>
"""
