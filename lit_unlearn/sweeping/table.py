"""Table of a sweep's runs: settings, and the figures that each run has written."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lit_unlearn.errors import InputError
from lit_unlearn.sweeping.jobs import EVALUATION, Failure, Job
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.tables import csv_text, print_paths, table

__all__ = ["BALANCE", "METRICS", "SUMMARY", "SWEEP_SCHEMA", "RunOutcome"]
__all__ += ["evaluation_figures", "figures", "outcome_files", "read_outcomes", "show"]
__all__ += ["write_outcomes"]

SUMMARY = "summary.json"
METRICS = "metrics.json"
SWEEP_SCHEMA = 1
"""Version of ``sweep.json``; it increases when a key changes its name or meaning."""
BALANCE = f"{EVALUATION}/balance"
_SHOWN = "rouge_l"
"""Figure of each objective in the printed table; the files have all figures."""

_Named = tuple[str, float | None]


@dataclass(frozen=True)
class RunOutcome:
    """The settings and figures of one run."""

    name: str
    folder: Path
    settings: Mapping[str, str]
    """Value of each swept key, as given."""
    figures: Mapping[str, float | None]
    """Figures by name: ``objective/figure`` and ``objective/prefilled/figure`` after training,
    ``seconds``, and for an evaluation ``evaluation/suite/figure`` and ``evaluation/balance``."""
    error: str = ""


def read_outcomes(
    jobs: Sequence[Job], settings: Mapping[str, Mapping[str, str]], failures: Sequence[Failure]
) -> list[RunOutcome]:
    """Read the figures that the runs have written; a failed run has none."""
    reasons = {failure.job.name: failure.reason for failure in failures}
    return [
        RunOutcome(job.name, job.folder, settings[job.name], own, reasons.get(job.name, ""))
        for job in jobs
        for own in [{} if job.name in reasons else figures(job.folder)]
    ]


def figures(folder: Path) -> dict[str, float | None]:
    """Return the figures of a run from ``summary.json`` and, if there is one, its evaluation."""
    found = _read(folder / SUMMARY, _summary_figures)
    return found | evaluation_figures(folder / EVALUATION)


def evaluation_figures(folder: Path) -> dict[str, float | None]:
    """Return the figures of an evaluation by suite; empty if there is no evaluation."""
    return _read(folder / METRICS, _evaluation_figures)


def _read(file: Path, figures_of: Callable[[Any], Iterator[_Named]]) -> dict[str, float | None]:
    if not file.is_file():
        return {}
    try:
        found = dict(figures_of(json.loads(file.read_text("utf-8"))))
        for name, value in found.items():
            if not isinstance(value, int | float | None):
                raise TypeError(f"{name} is {value!r:.60}")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file}: expected the JSON of a run or an evaluation, found something else "
            f"({type(error).__name__}: {error}); remove the file and start the command again"
        ) from None
    return found


def _evaluation_figures(content: Mapping[str, Any]) -> Iterator[_Named]:
    for figure in content["balance"]:
        yield f"{EVALUATION}/{figure['name']}", figure["value"]
    for suite in content["suites"]:
        for figure in suite["figures"]:
            yield f"{EVALUATION}/{suite['suite']}/{figure['name']}", figure["value"]


def _summary_figures(content: Mapping[str, Any]) -> Iterator[_Named]:
    for entry in content["objectives"]:
        prefix = entry["objective"] + ("/prefilled" if entry["prefilled"] else "")
        for key, value in (entry["after"] or {}).items():
            if isinstance(value, int | float | None):
                yield f"{prefix}/{key}", value
    if "seconds" in content["run"]:
        yield "seconds", content["run"]["seconds"]


def outcome_files(folder: Path) -> list[Path]:
    """Return the files that `write_outcomes` replaces."""
    return [folder / "sweep.json", folder / "sweep.csv"]


def write_outcomes(folder: Path, found: Sequence[RunOutcome]) -> None:
    """Write ``sweep.json`` and ``sweep.csv``, the latter with a line for each run."""
    entries = [
        {**vars(each), "folder": str(each.folder), "error": each.error or None} for each in found
    ]
    content = {"schema_version": SWEEP_SCHEMA, "runs": entries}
    write_text(folder / "sweep.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    keys = list(dict.fromkeys(key for outcome in found for key in outcome.settings))
    names = list(dict.fromkeys(name for outcome in found for name in outcome.figures))
    rows: list[list[object]] = [["name", *keys, "error", *names]]
    for outcome in found:
        values = [outcome.settings.get(key, "") for key in keys]
        measured = [outcome.figures.get(name) for name in names]
        rows.append([outcome.name, *values, outcome.error, *measured])
    write_text(folder / "sweep.csv", csv_text(rows))


def show(console: Console, found: Sequence[RunOutcome], folder: Path) -> None:
    """Print a table with a few figures, and the paths of the files with all."""
    names = list(dict.fromkeys(name for outcome in found for name in outcome.figures))
    chosen = [name for name in names if name == BALANCE or _is_shown(name)]
    columns = [name.removeprefix(f"{EVALUATION}/").removesuffix(f"/{_SHOWN}") for name in chosen]
    rows = [
        (outcome.name, "failed")
        if outcome.error
        else (outcome.name, *(_cell(outcome.figures.get(name)) for name in chosen))
        for outcome in found
    ]
    console.print(table("ROUGE-L after training", ["run", *columns], rows))
    print_paths(console, {"All figures": f"{folder / 'sweep.csv'}, {folder / 'sweep.json'}"})


def _is_shown(name: str) -> bool:
    objective, *rest = name.split("/")
    return objective != EVALUATION and rest == [_SHOWN]


def _cell(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3f}"
