"""Tables on the terminal, and the console that prints them."""

import csv
import io
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

__all__ = ["WIDTH", "add_row", "csv_text", "print_paths", "table", "terminal"]

WIDTH = 140
"""Characters per line if output goes to a file and COLUMNS is not set."""


def terminal(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console as wide as the terminal; without one, as wide as COLUMNS or `WIDTH`."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else shutil.get_terminal_size((WIDTH, 24)).columns
    return Console(stderr=stderr, quiet=quiet, width=width, highlight=False, markup=False)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]] = (),
    *,
    left: int = 1,
    fixed: Sequence[int] = (),
    caption: str = "",
) -> Table:
    """Return a table of texts, in which rich's markup is not interpreted.

    Args:
        title: Text above the table.
        columns: Headings.
        rows: Cells of each row, from the left; missing ones are empty.
        left: Number of first columns that are aligned to the left; the others are to the right.
        fixed: Indices of columns that are not wrapped on a narrow terminal.
        caption: Text below the table.
    """
    made = Table(
        title=Text(title, "table.title"),
        title_justify="left",
        caption=Text(caption, "table.caption") if caption else None,
        caption_justify="left",
    )
    for index, heading in enumerate(columns):
        justify: JustifyMethod = "left" if index < left else "right"
        wide = index in fixed
        made.add_column(Text(heading), justify=justify, no_wrap=wide, overflow="fold")
    for row in rows:
        add_row(made, row)
    return made


def add_row(made: Table, cells: Sequence[str | Text], style: str = "") -> None:
    """Add a row of texts to a table."""
    made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; None becomes an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def print_paths(console: Console, paths: Mapping[str, object]) -> None:
    """Print paths by name, each on one unbroken line."""
    for what, path in paths.items():
        console.print(f"{what}: {path}", soft_wrap=True)
