"""Dossier: the evidence of a request as a page that a reader without technical knowledge reads.

The page is made from the manifest alone, so that it holds nothing of the forgotten content.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure as Picture

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.report.evaluation_pictures import has_value, suite_picture
from lit_unlearn.report.evaluation_table import ABSENT, Line, number, side_by_side
from lit_unlearn.report.html import write_page
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.manifest import (
    build_manifest,
    manifest_text,
    read_manifest,
    recorded,
    threshold_of,
)
from lit_unlearn.requests.plain_words import meaning, not_measured
from lit_unlearn.requests.thresholds import find_figure
from lit_unlearn.utils.digests import file_digest, json_digest
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.plain_json import json_text, nan_to_null

__all__ = ["page_values", "write_dossier"]

_HEADLINES = {
    "met": "The request was met by all measurements below.",
    "not met": "The request was not met: {bad} of {count} requirements failed ({names}).",
    "nothing to forget": "There was nothing to forget: the model did not know the content.",
}

_PER_CENT = "\u00a0%"
_WIDTH = 42
"""Characters in a line of a picture's labels."""
_Check = Mapping[str, Any]
_Records = Mapping[str, EvaluationRecord]
"""Evaluations by heading: before, and after if there was training."""


def write_dossier(folder: Path) -> None:
    """Write ``dossier.html`` and ``manifest.json`` of a finished request.

    Both stay as they are, with the versions and the signature of that time, if nothing else has
    changed since.

    Raises:
        InputError: See `build_manifest`.
    """
    place = RequestFolder(folder)
    manifest = build_manifest(folder)
    if _is_written(place, manifest):
        return
    write_page(place.dossier, "dossier", page_values(manifest))
    manifest["dossier"] = {"sha256": file_digest(place.dossier)}
    write_text(place.manifest, manifest_text(manifest))


def _is_written(place: RequestFolder, manifest: Mapping[str, Any]) -> bool:
    """Return whether both files are there and say the same, except for the versions."""
    try:
        known = read_manifest(place.manifest)
    except InputError:
        return False
    facts = ({k: v for k, v in each.items() if k not in _LATER} for each in (known, manifest))
    page = place.dossier.is_file() and file_digest(place.dossier) == known["dossier"]["sha256"]
    return page and json_digest(nan_to_null(next(facts))) == json_digest(nan_to_null(next(facts)))


_LATER = ("code", "environment", "dossier")
"""Keys of a manifest that may differ from one of the same results."""


def page_values(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for the template of the page."""
    checks, verdict = manifest["checks"], manifest["verdict"]
    found = {heading: recorded(manifest, heading) for heading in ("before", "after")}
    records = {heading: record for heading, record in found.items() if record is not None}
    failed = [_name(check) for check in checks if check["outcome"] != "met"]
    facts = {"bad": len(failed), "count": len(checks), "names": "; ".join(failed)}
    return {
        "title": f"Evidence of request {manifest['request']['id']}",
        "verdict": verdict,
        "headline": _HEADLINES[verdict].format(**facts),
        "asked": _asked(manifest),
        "columns": ["what was measured", "asked", *records, "required", "result"],
        "requirements": [_requirement(check, records) for check in checks],
        "pictures": _pictures(checks, records),
        "notes": manifest["notes"],
        "undefined": [_name(check) for check in checks if check["outcome"] == "not measured"],
        "not_measured": not_measured({n for record in records.values() for n in record.suites}),
        "risks": [*_risks(checks, records), *(_GENERAL_RISKS if "after" in records else ())],
        "weights": [
            ("before" if name == "start" else "after", known["model"], known["fingerprint"])
            for name, known in manifest["weights"].items()
        ],
        "figure_columns": ["suite", "figure", "rows", *records, "unit"],
        "figures": [_figure_row(line) for line in side_by_side(records)],
        "files": sorted(manifest["files"].items()),
        "settings": json_text({k: manifest[k] for k in ("seeds", "code", "environment")}, indent=2),
    }


def _asked(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was asked, in pairs of a name and a text."""
    request, rows = manifest["request"], manifest["rows"]
    recipes = [request["recipe"]] if isinstance(request["recipe"], str) else request["recipe"]
    given = [_KINDS[name].format(count) for name, count in request["forget"].items() if count]
    forget, near, general = (
        len(rows.get(f"battery/{name}.jsonl", ())) for name in ("forget", "neighbor", "general")
    )
    return [
        ("request", request["id"]),
        ("model", request["model"]),
        ("to forget", f"{'; '.join(given)}. The content itself is not on this page."),
        ("questions about it", f"{forget}, asked before and after"),
        ("to keep", f"{near} questions near the content and {general} general ones, asked as well"),
        ("method", f"{', '.join(recipes)}; seed {request['seed']}"),
    ]


_KINDS = {
    "texts": "passages: {}",
    "questions": "questions with answers: {}",
    "rows": "files of questions or passages: {}",
    "subject": "the name of the subject",
}


def _name(check: _Check) -> str:
    suite, _, figure = check["figure"].partition("/")
    return meaning(suite, figure)


def _cells(check: _Check, records: _Records) -> list[Figure | None]:
    """Return the figure of a check in each evaluation."""
    return [find_figure(record, check["figure"]) for record in records.values()]


def _requirement(check: _Check, records: _Records) -> list[str]:
    """Return the cells of one requirement."""
    cells = _cells(check, records)
    unit = next((cell.unit for cell in cells if cell is not None), "share")
    shown = [_shown(cell) for cell in cells]
    return [_name(check), str(check["count"]), *shown, _bound(check, unit), check["outcome"]]


def _bound(check: _Check, unit: str) -> str:
    least, start = check["at_most"] is None, check["start"]
    bound = check["at_least" if least else "at_most"]
    side = f"at {'least' if least else 'most'}"
    if not check["of_start"]:
        return f"{side} {_value(bound, unit)}"
    share = f"{100 * bound:.0f} % of before"
    text = share if start is None else f"{_value(bound * start, unit)}\n({share})"
    return f"{side} {text}"


def _shown(figure: Figure | None) -> str:
    """Return a figure with its 95 % interval as text."""
    if figure is None or not has_value(figure):
        return ABSENT
    text = _value(figure.value, figure.unit)
    if figure.low is None or figure.high is None:
        return text
    low, high = (_value(end, figure.unit) for end in (figure.low, figure.high))
    return f"{text}\n({low.removesuffix(_PER_CENT)} to {high})"


def _value(value: float, unit: str) -> str:
    """Return a share in per cent, and any other value as a number."""
    is_share = unit.startswith("share") or "0 to 1" in unit
    return f"{100 * value:.0f}{_PER_CENT}" if is_share else number(value)


def _pictures(checks: Sequence[_Check], records: _Records) -> dict[str, Picture]:
    lines = [Line("", fill(_name(check), _WIDTH), _cells(check, records)) for check in checks]
    drawn = [line for line in lines if any(map(has_value, line.cells))]
    return {"Before and after": suite_picture(list(records), drawn)} if drawn else {}


def _figure_row(line: Line) -> list[str]:
    figure = line.figure
    return [line.suite, line.name, str(figure.count), *map(_shown, line.cells), figure.unit]


_GENERAL_RISKS = (
    "The measurements are samples. The intervals say how far the true value may lie from the "
    "measured one, in 95 of 100 such samples.",
    "A reply that declines does not prove that the content is gone. Whoever holds the weights may "
    "still recover some of it, with questions that nobody asked here, or by further training.",
    "A later change of the model can bring the content back. Ask again after each change: "
    "lit-unlearn audit MODEL --ledger LEDGER.",
)


def _risks(checks: Sequence[_Check], records: _Records) -> Iterator[str]:
    """Yield the met requirements that other questions of the same kind may not meet."""
    for check in checks:
        bound = threshold_of(check)
        end = check["low" if bound.at_most is None else "high"]
        if check["outcome"] == "met" and end is not None and not bound.holds(end, check["start"]):
            unit = next((cell.unit for cell in _cells(check, records) if cell is not None), "share")
            yield (
                f"{_name(check)}: met on {check['count']} questions. On all questions of this kind "
                f"the value may be {_value(end, unit)}, which would not meet the requirement."
            )
