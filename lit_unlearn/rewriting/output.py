"""Rows with their provenance, what was refused and why, and the quality report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, get_args

from rich.table import Table

from lit_unlearn.report.html import fold, page, table
from lit_unlearn.rewriting.drafts import Candidate, Maker, Part, Result
from lit_unlearn.utils.files import write_text
from lit_unlearn.utils.plain_json import json_text

REJECTED, REPORT, SUMMARY = "rejected.jsonl", "report.html", "report.json"
SAMPLES = 12
"""Most rows shown of each kind."""
_COLUMNS = ("part", "made by", "check", "checked", "passed", "share")


@dataclass(frozen=True)
class Count:
    """How many questions of one part and maker passed one check, or all of them."""

    part: Part
    made_by: Maker
    check: str
    checked: int
    passed: int

    @property
    def share(self) -> float:
        """Passed, of those that were checked."""
        return self.passed / self.checked


def counts(result: Result) -> list[Count]:
    """One line for each part, maker and check, and "all checks" last.

    The checks by rule are made of every question; the model's, and that against earlier questions,
    of those that passed the ones before.
    """
    found = []
    for part in get_args(Part):
        for maker in get_args(Maker):
            own = [c for c in result.candidates if c.part == part and c.made.by == maker]
            names = list(dict.fromkeys(name for c in own for name in c.checks))
            for name in names:
                said = [c.checks[name] for c in own if name in c.checks]
                found.append(Count(part, maker, name, len(said), said.count("")))
            if own:
                passed = sum(c.is_accepted for c in own)
                found.append(Count(part, maker, "all checks", len(own), passed))
    return found


def write_result(folder: Path, result: Result, facts: Mapping[str, Any]) -> list[Path]:
    """Write all files, each at once or not at all.

    Args:
        folder: Where they go.
        result: What was made.
        facts: Model, sources and settings, for the report.

    Returns:
        The files, the rows' first.
    """
    files: dict[Path, str] = {}
    for part in get_args(Part):
        rows = [c.row(result.settings) for c in result.accepted(part)]
        files[folder / f"{part}.jsonl"] = _lines(rows)
    refused = [_refused(c, result) for c in result.candidates if not c.is_accepted]
    files[folder / REJECTED] = _lines([*(lost.row() for lost in result.lost), *refused])
    lines = [{**asdict(count), "share": count.share} for count in counts(result)]
    summary = {"counts": lines, "lost": _lost(result), **facts}
    files[folder / SUMMARY] = json_text(summary, indent=2) + "\n"
    files[folder / REPORT] = _page(result, facts)
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _refused(candidate: Candidate, result: Result) -> dict[str, Any]:
    reasons = {name: reason for name, reason in candidate.checks.items() if reason}
    return {"part": candidate.part, "reasons": reasons, **candidate.row(result.settings)}


def _lost(result: Result) -> dict[str, int]:
    """How many texts gave no question, by part and reason; details after a colon do not count."""
    return dict(Counter(f"{lost.part}: {lost.reason.split(':')[0]}" for lost in result.lost))


# ------------------------------------------------------------------------------------ the report


def count_rows(result: Result) -> list[tuple[str, ...]]:
    """The counts as texts."""
    return [
        (c.part, c.made_by, c.check, str(c.checked), str(c.passed), f"{c.share:.0%}")
        for c in counts(result)
    ]


def count_table(result: Result) -> Table:
    """The same for the terminal."""
    found = Table(title="questions that passed each check", title_justify="left")
    for index, heading in enumerate(_COLUMNS):
        found.add_column(heading, justify="right" if index > 2 else "left")
    for row in count_rows(result):
        found.add_row(*row)
    return found


def row_counts(result: Result) -> str:
    """How many rows each part has."""
    return ", ".join(f"{len(result.accepted(part))} {part}" for part in get_args(Part))


def _page(result: Result, facts: Mapping[str, Any]) -> str:
    title = "Rewritten rows: quality report"
    written = row_counts(result)
    parts = [
        f"<h1>{title}</h1><p>Rows written: {written}. Checks by rule err; read the samples.</p>",
        table(_COLUMNS, count_rows(result), whole=True),
    ]
    lost = _lost(result)
    if lost:
        texts = [(reason, str(count)) for reason, count in lost.items()]
        parts.append(f"<h2>Texts that gave too little</h2>{table(('reason', 'texts'), texts)}")
    parts.append("<h2>Samples</h2>")
    for part in get_args(Part):
        parts.append(_accepted(part, result))
        parts.append(_refusals(part, result))
    parts.append(fold("Settings", f"<pre>{escape(json_text(facts, indent=2))}</pre>"))
    return page(title, parts)


def _accepted(part: Part, result: Result) -> str:
    rows = [
        (c.qa.question, c.qa.answer, c.anchor_of or _source(c), c.made.by)
        for c in _spread(result.accepted(part))
    ]
    beside = "beside" if part == "anchors" else "source"
    shown = table(("question", "answer", beside, "made by"), rows)
    return fold(f"{part}: {len(rows)} of {len(result.accepted(part))} accepted", shown)


def _refusals(part: Part, result: Result) -> str:
    refused = [c for c in result.candidates if c.part == part and not c.is_accepted]
    rows = [
        (c.qa.question, c.qa.answer, "\n".join(f"{k}: {v}" for k, v in c.checks.items() if v))
        for c in _spread(refused)
    ]
    shown = table(("question", "answer", "refused because"), rows)
    return fold(f"{part}: {len(rows)} of {len(refused)} refused", shown) if rows else ""


def _source(candidate: Candidate) -> str:
    return candidate.material.text or candidate.material.row_id


def _spread(candidates: Sequence[Candidate]) -> list[Candidate]:
    """At most `SAMPLES`, evenly spread."""
    count = min(SAMPLES, len(candidates))
    return [candidates[index * len(candidates) // count] for index in range(count)]
