"""``evaluation.html``: evaluations side by side on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure as Picture

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.report.evaluation_gallery import gallery
from lit_unlearn.report.evaluation_table import (
    BALANCE,
    DIRECTIONS,
    LEGEND,
    Columns,
    Line,
    Marks,
    notes,
    shown_counts,
    shown_figure,
    side_by_side,
)
from lit_unlearn.report.html import fold, page, picture, table
from lit_unlearn.report.run_summary import ABSENT
from lit_unlearn.utils.files import write_text
from lit_unlearn.utils.plain_json import json_text

SAMPLES = 6
"""Most rows shown per group of a suite."""


def write_evaluation_page(
    path: Path,
    columns: Columns,
    *,
    title: str,
    marks: Marks | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Write the page, all at once or not at all.

    Args:
        path: The HTML file.
        columns: The evaluations to show.
        title: Heading of the page.
        marks: Text below a value, as in `evaluation_table`.
        remarks: Sentences under the heading, such as what could not be compared.
    """
    lines, pictures = side_by_side(columns), gallery(columns)
    suites = list(dict.fromkeys(line.suite for line in lines))
    order = sorted(suites, key=lambda suite: suite != BALANCE)
    parts = [
        _head(title, columns, remarks),
        *(
            _suite(suite, columns, pictures, [line for line in lines if line.suite == suite], marks)
            for suite in order
        ),
        _replies(columns),
        _facts(columns),
    ]
    write_text(path, page(title, parts))


def _head(title: str, columns: Columns, remarks: Sequence[str]) -> str:
    models = "".join(
        f'<div class="card"><h3>{escape(heading)}</h3><p>{escape(record.model)}</p></div>'
        for heading, record in columns.items()
    )
    said = "".join(f"<p>{escape(remark)}</p>" for remark in remarks)
    key = f"<p>{escape(LEGEND)}</p>"
    return f'<h1>{escape(title)}</h1>{said}{key}<div class="cards">{models}</div>'


def _suite(
    suite: str,
    columns: Columns,
    pictures: Mapping[str, Picture],
    lines: Sequence[Line],
    marks: Marks | None,
) -> str:
    """Table, notes and pictures of one suite, or of the balance."""
    said = "".join(f"<p>{escape(note)}</p>" for note in notes(lines))
    drawn = "".join(
        picture(figure, name)
        for name, figure in pictures.items()
        if name == suite or name.startswith(f"{suite} ")
    )
    return f"<h2>{escape(suite)}</h2>{_figures(columns, lines, marks)}{said}{drawn}"


def _figures(columns: Columns, lines: Sequence[Line], marks: Marks | None) -> str:
    rows = []
    for line in lines:
        below = (marks or {}).get((line.suite, line.name), [""] * len(line.cells))
        cells = [
            "\n".join(filter(None, (shown_figure(cell), mark)))
            for cell, mark in zip(line.cells, below, strict=True)
        ]
        name = f"{line.name} {DIRECTIONS[line.figure.better]}".rstrip()
        rows.append((name, shown_counts(line), *cells, line.figure.unit))
    return table(("figure", "rows", *columns, "unit"), rows, whole=True)


def _replies(columns: Columns) -> str:
    """For each suite and group some rows, spread evenly, with what each model replied."""
    folds = []
    first: dict[tuple[str, str], list[Row]] = {}
    replies: dict[tuple[str, str, str], str] = {}
    for heading, record in columns.items():
        for name, suite in record.suites.items():
            for row in suite.rows:
                replies[heading, name, row.row_id] = row.reply
                if row.reply:
                    first.setdefault((name, row.group), []).append(row)
    for (name, group), rows in first.items():
        unique = list({row.row_id: row for row in rows}.values())
        count = min(SAMPLES, len(unique))
        chosen = [unique[index * len(unique) // count] for index in range(count)]
        texts = [
            (
                row.question or row.row_id,
                row.gold or ABSENT,
                *(replies.get((heading, name, row.row_id)) or ABSENT for heading in columns),
            )
            for row in chosen
        ]
        folds.append(fold(f"{name}: {group}", table(("question", "gold answer", *columns), texts)))
    return f"<h2>Replies</h2>{''.join(folds)}" if folds else ""


def _facts(columns: Columns) -> str:
    """What each suite cost, all settings, and versions."""
    costs = [
        (heading, name, str(len(suite.rows)), f"{suite.seconds:.1f}", f"{suite.cpu_seconds:.1f}")
        for heading, record in columns.items()
        for name, suite in record.suites.items()
    ]
    told: Mapping[str, object] = {
        heading: {
            "model": record.model,
            "versions": record.versions,
            "settings": record.settings,
            "suites": {name: suite.settings for name, suite in record.suites.items()},
        }
        for heading, record in columns.items()
    }
    cost = table(("model", "suite", "rows", "wall seconds", "processor seconds"), costs)
    settings = f"<pre>{escape(json_text(told, indent=2))}</pre>"
    return f"<h2>Cost and settings</h2>{cost}{fold('Settings and versions', settings)}"
