"""`lit-unlearn compare`: evaluations side by side, tested row by row against the first."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.comparison import Comparison, compare_evaluations, not_common
from lit_unlearn.evaluation.files import read_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.report.evaluation_show import show_evaluations
from lit_unlearn.report.evaluation_table import Marks, number
from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.plain_json import json_text

COMPARE_SCHEMA = 1
"""Of ``compare.json``; raised when a key changes its name or meaning."""
_SIGNIFICANT = 0.05

Comparisons = Mapping[str, Sequence[Comparison]]
"""Heading of a further evaluation -> its comparison with the first."""


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``compare``, then its options.

    Raises:
        InputError: The command line or a folder cannot be used.
    """
    parser = ArgumentParser(
        prog="lit-unlearn compare",
        description="Show evaluations side by side. Every figure that is a mean over rows is "
        "tested against the first evaluation on the rows that both have: exact McNemar test for "
        "scores of 0 and 1, sign flips otherwise; p-values are Holm's, over the figures.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="Folders that `evaluate` has written.")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/compare"),
        help="Folder for compare.json, compare.html and pictures.",
    )
    try:
        given = parser.parse_args(args[1:])
    except ArgumentError as error:
        raise InputError(f"compare: {error}; see lit-unlearn compare --help") from None
    compare(given.runs, given.output)


def compare(runs: Sequence[Path], output: Path) -> Comparisons:
    """Compare evaluations with the first of them, and write compare.json, a page and pictures.

    Args:
        runs: At least two folders of evaluations.
        output: Made where it is missing.

    Returns:
        For each further evaluation, by its heading, the figures compared.

    Raises:
        InputError: Fewer than two folders, one without an evaluation, or no row in common.
    """
    if len(runs) < 2:
        raise InputError(f"compare: expected at least two folders, found {len(runs)}")
    records = [read_evaluation(run) for run in runs]
    columns = dict(zip(headings(runs), records, strict=True))
    first, *others = columns
    found = {name: compare_evaluations(columns[first], columns[name]) for name in others}
    if not any(found.values()):
        raise InputError(
            "compare: expected evaluations with rows in common, found none; evaluate with the same "
            "suites and settings"
        )
    remarks = not_common(columns)
    write_text(output / "compare.json", _json(runs, columns, found, remarks))
    show_evaluations(
        output / "compare.html",
        columns,
        title="Comparison of evaluations",
        marks=_marks(columns, found),
        remarks=[
            f"p: difference from {first} on common rows, corrected after Holm; * below "
            f"{_SIGNIFICANT}.",
            *remarks,
        ],
        places={"comparison": output / "compare.json"},
    )
    return found


def headings(runs: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart.

    Raises:
        InputError: A folder is given twice.
    """
    parts = [run.absolute().parts for run in runs]
    if len(set(parts)) < len(parts):
        raise InputError("compare: expected different folders, found one of them given twice")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(run) for run in runs]


def _marks(columns: Mapping[str, EvaluationRecord], found: Comparisons) -> Marks:
    """The p-value below each value that was tested, with a star where it is small."""
    marks: dict[tuple[str, str], list[str]] = {}
    for index, heading in enumerate(columns):
        for c in found.get(heading, ()):
            line = marks.setdefault((c.suite, c.figure), [""] * len(columns))
            line[index] = f"p {number(c.p_holm)}{' *' if c.p_holm < _SIGNIFICANT else ''}"
    return marks


def _json(
    runs: Sequence[Path],
    columns: Mapping[str, EvaluationRecord],
    found: Comparisons,
    remarks: Sequence[str],
) -> str:
    content = {
        "schema_version": COMPARE_SCHEMA,
        "runs": [
            {"name": name, "folder": run, "model": record.model, "fingerprint": record.fingerprint}
            for run, (name, record) in zip(runs, columns.items(), strict=True)
        ],
        "first": next(iter(columns)),
        "comparisons": {name: [asdict(c) for c in members] for name, members in found.items()},
        "not_common": list(remarks),
    }
    return json_text(content, indent=2) + "\n"
