"""Show evaluations side by side: page and pictures in a folder, a table on the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lit_unlearn.evaluation.compare import ComparedRuns
from lit_unlearn.evaluation.evaluate import Evaluation
from lit_unlearn.evaluation.given_models import MODEL
from lit_unlearn.evaluation.record_files import METRICS, ROWS
from lit_unlearn.report.drawing import picture_file, save_pictures
from lit_unlearn.report.evaluation_gallery import gallery
from lit_unlearn.report.evaluation_page import write_evaluation_page
from lit_unlearn.report.evaluation_table import BALANCE, Columns, Marks, evaluation_table, number
from lit_unlearn.utils.tables import print_paths, terminal

__all__ = ["PAGE", "show_comparison", "show_evaluation", "show_evaluations", "shown_files"]

PAGE, PICTURES = "evaluation.html", "pictures"
_SIGNIFICANT = 0.05


def shown_files(folder: Path, suites: Iterable[str], page: str = PAGE) -> list[Path]:
    """Return the files of the page and of the suites' pictures in a folder."""
    pictures = [picture_file(folder / PICTURES, name) for name in (*suites, BALANCE)]
    return [folder / page, *pictures]


def show_evaluation(found: Evaluation, folder: Path) -> None:
    """Show a result of `evaluate` that was written to a folder; see `show_evaluations`."""
    others = [name for name in found.records if name != MODEL and (folder / name).is_dir()]
    places = {"figures": folder / METRICS, "rows": folder / ROWS}
    places |= {name: folder / name for name in others}
    page, title = folder / PAGE, f"Evaluation of {found.records[MODEL].model}"
    show_evaluations(page, found.records, title=title, remarks=found.remarks, places=places)


def show_comparison(compared: ComparedRuns, folder: Path) -> None:
    """Show a result of `compare` that was written to a folder; see `show_evaluations`."""
    first = next(iter(compared.records))
    remark = (
        f"p: difference from {first} on common rows, corrected after Holm; * below {_SIGNIFICANT}."
    )
    page, title, marks = folder / "compare.html", "Comparison of evaluations", _p_values(compared)
    remarks, places = [remark, *compared.remarks], {"comparison": folder / "compare.json"}
    show_evaluations(
        page, compared.records, title=title, marks=marks, remarks=remarks, places=places
    )


def _p_values(compared: ComparedRuns) -> Marks:
    """Return the p-values to show below tested values, with a star if significant."""
    marks: dict[tuple[str, str], list[str]] = {}
    for index, heading in enumerate(compared.records):
        for c in compared.comparisons.get(heading, ()):
            line = marks.setdefault((c.suite, c.figure), [""] * len(compared.records))
            line[index] = f"p {number(c.p_holm)}{' *' if c.p_holm < _SIGNIFICANT else ''}"
    return marks


def show_evaluations(
    page: Path,
    columns: Columns,
    *,
    title: str,
    marks: Marks | None = None,
    remarks: Sequence[str] = (),
    places: Mapping[str, Path] | None = None,
) -> None:
    """Write the page, and ``pictures/`` in its folder; print the table and the paths.

    For `marks` and `remarks` see `write_evaluation_page`; `places` are further paths to print, by
    name.
    """
    drawn = gallery(columns)
    write_evaluation_page(page, columns, drawn, title=title, marks=marks, remarks=remarks)
    pictures = save_pictures(page.parent / PICTURES, drawn)
    console = terminal()
    console.print(evaluation_table(columns, marks))
    for remark in remarks:
        console.print(remark)
    found = {**(places or {}), "page": page}
    print_paths(console, found | ({"pictures": page.parent / PICTURES} if pictures else {}))
