"""``evaluation.html``: evaluations side by side on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from lit_unlearn.report.html import write_page
from lit_unlearn.report.run_summary import ABSENT
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.spread import evenly_spread

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
    values = {
        "title": title,
        "remarks": remarks,
        "legend": LEGEND,
        "columns": columns,
        "suites": [
            _suite(name, [line for line in lines if line.suite == name], pictures, marks)
            for name in order
        ],
        "replies": _replies(columns),
        "costs": _costs(columns),
        "settings": json_text(_settings(columns), indent=2),
    }
    write_page(path, "evaluation", values)


def _suite(
    name: str, lines: Sequence[Line], pictures: Mapping[str, Picture], marks: Marks | None
) -> dict[str, object]:
    """Return table rows, notes and pictures of one suite, or of the balance."""
    drawn = {k: v for k, v in pictures.items() if k == name or k.startswith(f"{name} ")}
    rows = _figures(lines, marks)
    return {"name": name, "rows": rows, "notes": notes(lines), "pictures": drawn}


def _figures(lines: Sequence[Line], marks: Marks | None) -> list[tuple[str, ...]]:
    rows = []
    for line in lines:
        below = (marks or {}).get((line.suite, line.name), [""] * len(line.cells))
        cells = [
            "\n".join(filter(None, (shown_figure(cell), mark)))
            for cell, mark in zip(line.cells, below, strict=True)
        ]
        name = f"{line.name} {DIRECTIONS[line.figure.better]}".rstrip()
        rows.append((name, shown_counts(line), *cells, line.figure.unit))
    return rows


def _replies(columns: Columns) -> dict[str, list[tuple[str, ...]]]:
    """Choose some rows of each suite and group, with what each model replied."""
    shown: dict[str, list[tuple[str, ...]]] = {}
    first: dict[tuple[str, str], dict[str, Row]] = {}
    replies: dict[tuple[str, str, str], str] = {}
    for heading, record in columns.items():
        for name, suite in record.suites.items():
            for row in suite.rows:
                replies[heading, name, row.row_id] = row.reply
                if row.reply:
                    first.setdefault((name, row.group), {})[row.row_id] = row
    for (name, group), rows in first.items():
        shown[f"{name}: {group}"] = [
            (
                row.question or row.row_id,
                row.gold or ABSENT,
                *(replies.get((heading, name, row.row_id)) or ABSENT for heading in columns),
            )
            for row in evenly_spread(list(rows.values()), SAMPLES)
        ]
    return shown


def _costs(columns: Columns) -> list[tuple[str, ...]]:
    return [
        (heading, name, str(len(suite.rows)), f"{suite.seconds:.1f}", f"{suite.cpu_seconds:.1f}")
        for heading, record in columns.items()
        for name, suite in record.suites.items()
    ]


def _settings(columns: Columns) -> Mapping[str, object]:
    return {
        heading: {
            "model": record.model,
            "versions": record.versions,
            "settings": record.settings,
            "suites": {name: suite.settings for name, suite in record.suites.items()},
        }
        for heading, record in columns.items()
    }
