"""``evaluation.html``: evaluations side by side on one self-contained page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure as Picture

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.report.evaluation_table import (
    ABSENT,
    BALANCE,
    LEGEND,
    Columns,
    Marks,
    notes,
    shown_line,
    side_by_side,
)
from lit_unlearn.report.html import write_page
from lit_unlearn.utils.grouping import grouped
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["SAMPLES", "sample_replies", "write_evaluation_page"]

SAMPLES = 6
"""Largest number of rows that are shown per group of a suite."""


def write_evaluation_page(
    path: Path,
    columns: Columns,
    pictures: Mapping[str, Picture],
    *,
    title: str,
    marks: Marks | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Write the page.

    `pictures` come from `gallery`. `marks` are texts below values, as in `evaluation_table`;
    `remarks` are sentences under the heading, for example about figures that cannot be compared.
    """
    suites = grouped(side_by_side(columns), lambda line: line.suite)
    values = {
        "title": title,
        "remarks": remarks,
        "legend": LEGEND,
        "columns": columns,
        "suites": [
            {
                "name": name,
                "rows": [shown_line(line, marks) for line in suites[name]],
                "notes": notes(suites[name]),
                "pictures": {
                    k: v for k, v in pictures.items() if k == name or k.startswith(f"{name} ")
                },
            }
            for name in sorted(suites, key=lambda suite: suite != BALANCE)
        ],
        "replies": {
            f"{suite}: {group}": rows
            for (suite, group), rows in sample_replies(columns, SAMPLES).items()
        },
        "costs": [
            (heading, name, str(len(own.rows)), f"{own.seconds:.1f}", f"{own.cpu_seconds:.1f}")
            for heading, record in columns.items()
            for name, own in record.suites.items()
        ],
        "settings": json_text(_settings(columns), indent=2),
    }
    write_page(path, "evaluation", values)


def sample_replies(columns: Columns, most: int) -> dict[tuple[str, str], list[tuple[str, ...]]]:
    """Choose rows of each suite and group: question, gold answer and each model's reply, as texts.

    At most `most` rows of a group are chosen; rows without replies are left out.
    """
    first: dict[tuple[str, str], dict[str, Row]] = {}
    replies: dict[tuple[str, str, str], str] = {}
    for heading, record in columns.items():
        for name, suite in record.suites.items():
            for row in suite.rows:
                replies[heading, name, row.row_id] = row.reply
                if row.reply:
                    first.setdefault((name, row.group), {})[row.row_id] = row
    return {
        (name, group): [
            (
                row.question or row.row_id,
                row.gold or ABSENT,
                *(replies.get((heading, name, row.row_id)) or ABSENT for heading in columns),
            )
            for row in evenly_spread(list(rows.values()), most)
        ]
        for (name, group), rows in first.items()
    }


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
