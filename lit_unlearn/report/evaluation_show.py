"""Shows evaluations side by side: page and pictures in a folder, the table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from lit_unlearn.report.drawing import save_pictures
from lit_unlearn.report.evaluation_gallery import gallery
from lit_unlearn.report.evaluation_page import write_evaluation_page
from lit_unlearn.report.evaluation_table import Columns, Marks, evaluation_table

_WIDTH = 140
"""Characters of a line where the output goes to a file."""


def show_evaluations(
    page: Path,
    columns: Columns,
    *,
    title: str,
    marks: Marks | None = None,
    remarks: Sequence[str] = (),
    places: Mapping[str, Path] | None = None,
) -> None:
    """Write the page and, beside it, ``pictures/``; print the table, and where everything is.

    Args:
        page: The HTML file.
        columns: The evaluations.
        title: Heading of the page.
        marks: Text below a value, as in `evaluation_table`.
        remarks: Sentences below the table and under the page's heading.
        places: What else was written: a word -> its path.
    """
    write_evaluation_page(page, columns, title=title, marks=marks, remarks=remarks)
    pictures = save_pictures(page.parent / "pictures", gallery(columns))
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(evaluation_table(columns, marks))
    for remark in remarks:
        console.print(remark, highlight=False, markup=False)
    found = {**(places or {}), "page": page}
    found |= {"pictures": page.parent / "pictures"} if pictures else {}
    for what, path in found.items():
        console.print(f"{what}: {path}", highlight=False, soft_wrap=True, markup=False)
