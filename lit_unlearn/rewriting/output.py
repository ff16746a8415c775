"""Output files: rows with their provenance, refused rows, and the quality report."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rich.table import Table

from lit_unlearn.report.html import write_page
from lit_unlearn.rewriting.drafts import Maker, Part, RewriteResult
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.spread import evenly_spread
from lit_unlearn.utils.tables import table

__all__ = ["SAMPLES", "Count"]
__all__ += ["count_rows", "count_table", "counts", "result_files", "row_counts", "write_result"]

REJECTED, REPORT, SUMMARY = "rejected.jsonl", "report.html", "report.json"
SAMPLES = 12
"""Largest number of sample rows of each kind in the report."""
_COLUMNS = ("part", "made by", "check", "checked", "passed", "share")


@dataclass(frozen=True)
class Count:
    """Number of questions of one part and maker that passed one check, or all checks."""

    part: Part
    made_by: Maker
    check: str
    checked: int
    passed: int

    @property
    def share(self) -> float:
        """Share of the checked questions that passed."""
        return self.passed / self.checked


def counts(result: RewriteResult) -> list[Count]:
    """Count by part, maker and check, with "all checks" last.

    Only questions that passed all earlier checks are checked by the model and for repetition.
    """
    found = []
    for part in get_args(Part):
        for maker in get_args(Maker):
            own = [c for c in result.candidates if c.part == part and c.made.by == maker]
            names = list(dict.fromkeys(name for c in own for name in c.checks))
            for name in names:
                outcomes = [c.checks[name] for c in own if name in c.checks]
                found.append(Count(part, maker, name, len(outcomes), outcomes.count("")))
            if own:
                passed = sum(c.is_accepted for c in own)
                found.append(Count(part, maker, "all checks", len(own), passed))
    return found


def result_files(folder: Path) -> list[Path]:
    """Return the files that `write_result` replaces."""
    names = (*(f"{part}.jsonl" for part in get_args(Part)), REJECTED, SUMMARY, REPORT)
    return [folder / name for name in names]


def write_result(folder: Path, result: RewriteResult, facts: Mapping[str, Any]) -> list[Path]:
    """Write all files; return their paths, those with rows first.

    `facts` are model, sources and settings, for the report.
    """
    files: dict[Path, str] = {}
    for part in get_args(Part):
        rows = [c.row(result.settings) for c in result.accepted(part)]
        files[folder / f"{part}.jsonl"] = _lines(rows)
    refused = [
        {"part": c.part, "reasons": c.reasons, **c.row(result.settings)}
        for c in result.candidates
        if not c.is_accepted
    ]
    files[folder / REJECTED] = _lines([*(lost.row() for lost in result.lost), *refused])
    lines = [{**asdict(count), "share": count.share} for count in counts(result)]
    summary = {"counts": lines, "lost": _lost(result), **facts}
    files[folder / SUMMARY] = json_text(summary, indent=2) + "\n"
    for path, text in files.items():
        write_text(path, text)
    write_page(folder / REPORT, "rewriting", _page(result, facts))
    return [*files, folder / REPORT]


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _lost(result: RewriteResult) -> dict[str, int]:
    """Count lost texts by part and reason; details after a colon are left out."""
    return dict(Counter(f"{lost.part}: {lost.reason.split(':')[0]}" for lost in result.lost))


# ------------------------------------------------------------------------------------ the report


def count_rows(result: RewriteResult) -> list[tuple[str, ...]]:
    """Return the counts as texts."""
    return [
        (c.part, c.made_by, c.check, str(c.checked), str(c.passed), f"{c.share:.0%}")
        for c in counts(result)
    ]


def count_table(result: RewriteResult) -> Table:
    """Return the counts for the terminal."""
    return table("questions that passed each check", _COLUMNS, count_rows(result), left=3)


def row_counts(result: RewriteResult) -> str:
    """Return the number of rows of each part, as a text."""
    return ", ".join(f"{len(result.accepted(part))} {part}" for part in get_args(Part))


def _page(result: RewriteResult, facts: Mapping[str, Any]) -> dict[str, object]:
    return {
        "title": "Rewritten rows: quality report",
        "written": row_counts(result),
        "columns": _COLUMNS,
        "counts": count_rows(result),
        "lost": _lost(result),
        "samples": [table for part in get_args(Part) for table in _samples(part, result)],
        "settings": json_text(facts, indent=2),
    }


def _samples(
    part: Part, result: RewriteResult
) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """Yield title, columns and rows of accepted questions, then of refused ones, if any."""
    accepted = result.accepted(part)
    rows = [
        (c.qa.question, c.qa.answer, c.anchor_of or c.origin.text or c.origin.row_id, c.made.by)
        for c in evenly_spread(accepted, SAMPLES)
    ]
    origin = "anchor of" if part == "anchors" else "source"
    title = f"{part}: {len(rows)} of {len(accepted)} accepted"
    yield title, ("question", "answer", origin, "made by"), rows
    refused = [c for c in result.candidates if c.part == part and not c.is_accepted]
    if refused:
        why = [
            (c.qa.question, c.qa.answer, "\n".join(f"{k}: {v}" for k, v in c.reasons.items()))
            for c in evenly_spread(refused, SAMPLES)
        ]
        title = f"{part}: {len(why)} of {len(refused)} refused"
        yield title, ("question", "answer", "refused because"), why
