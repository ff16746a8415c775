"""Table of evaluations side by side: lines of figures, and their form on the terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.utils.tables import add_row, table

__all__ = ["ABSENT", "BALANCE", "DIRECTIONS", "LEGEND", "Columns", "Line", "Marks"]
__all__ += ["evaluation_table", "notes", "number", "shown_figure", "shown_line", "side_by_side"]

BALANCE = "balance"
"""Name in place of a suite's, for the balanced score and its parts."""
ABSENT = "\u2013"
"""Text in place of a missing value."""
DIRECTIONS = {"higher": "\u2191", "lower": "\u2193", "neither": ""}

LEGEND = "\u2191 should rise, \u2193 should fall; in brackets 95 % intervals"

Columns = Mapping[str, EvaluationRecord]
"""Evaluations by heading, in the order in which they are shown."""
Marks = Mapping[tuple[str, str], Sequence[str]]
"""One text per column, by suite and figure; an empty text shows nothing."""


@dataclass(frozen=True)
class Line:
    """One figure of every column."""

    suite: str
    name: str
    cells: Sequence[Figure | None]
    """Figure of each column; None if the column lacks it."""

    @property
    def figure(self) -> Figure:
        """First figure; unit and direction are the same in all columns."""
        return next(cell for cell in self.cells if cell is not None)


def side_by_side(columns: Columns) -> list[Line]:
    """Return the lines of all suites in order of appearance, those of the balance last."""
    found: dict[tuple[str, str], list[Figure | None]] = {}
    for index, record in enumerate(columns.values()):
        figures = {name: suite.figures for name, suite in record.suites.items()}
        for suite, own in {**figures, BALANCE: record.balance}.items():
            for figure in own:
                empty: list[Figure | None] = [None] * len(columns)
                found.setdefault((suite, figure.name), empty)[index] = figure
    suites = list(dict.fromkeys(suite for suite, _ in found))
    order = {suite: (suite == BALANCE, place) for place, suite in enumerate(suites)}
    keys = sorted(found, key=lambda key: order[key[0]])
    return [Line(suite, name, found[suite, name]) for suite, name in keys]


def evaluation_table(columns: Columns, marks: Marks | None = None) -> Table:
    """Make a table: one section per suite, one line per figure, one column per evaluation.

    `marks` are texts below the values, such as p-values.
    """
    lines = side_by_side(columns)
    caption = "\n".join([LEGEND, *notes(lines)])
    made = table("evaluation", ["figure", "rows", *columns, "unit"], fixed=(0, 1), caption=caption)
    made.columns[-1].justify, made.columns[-1].style = "left", "dim"
    previous = ""
    for line in lines:
        if line.suite != previous:
            made.add_section()
            add_row(made, [Text(line.suite, "bold")])
            previous = line.suite
        name, *texts = shown_line(line, marks)
        add_row(made, [f" {name}", *texts])
    return made


def shown_line(line: Line, marks: Marks | None) -> tuple[str, ...]:
    """Return the texts of a line: name, number of rows, one cell per column, unit."""
    below = (marks or {}).get((line.suite, line.name), [""] * len(line.cells))
    cells = [
        "\n".join(filter(None, (shown_figure(cell), mark)))
        for cell, mark in zip(line.cells, below, strict=True)
    ]
    name = f"{line.name} {DIRECTIONS[line.figure.better]}".rstrip()
    # several numbers if the columns have different numbers of rows
    counts = dict.fromkeys(str(cell.count) for cell in line.cells if cell is not None)
    return name, " / ".join(counts), *cells, line.figure.unit


def shown_figure(figure: Figure | None) -> str:
    """Return value and 95 % interval as text, or a dash without a value."""
    if figure is None or math.isnan(figure.value):
        return ABSENT
    if figure.low is None or figure.high is None:
        return number(figure.value)
    return f"{number(figure.value)} [{number(figure.low)}, {number(figure.high)}]"


def number(value: float) -> str:
    """Return a number with three decimals up to 10 and fewer above; 0.0001 is ``1e-04``."""
    size = abs(value)
    if 0 < size < 0.0005:
        return f"{value:.0e}"
    return f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:.0f}"


def notes(lines: Sequence[Line]) -> list[str]:
    """Return each note of the figures once, after the name of the first figure that has it."""
    first_places: dict[str, str] = {}
    for line in lines:
        for cell in line.cells:
            if cell is not None and cell.note:
                where = line.name if line.suite == BALANCE else f"{line.suite} {line.name}"
                first_places.setdefault(cell.note, where)
    return [f"{where}: {note}" for note, where in first_places.items()]
