"""Output of the measurement: figures as JSON and CSV, pictures, and one page."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from lit_unlearn.errors import InputError
from lit_unlearn.interference_study.estimates import WHOLE, Estimate
from lit_unlearn.interference_study.interference_pictures import (
    domain_figure,
    gap_figure,
    layer_figure,
    matrix_figure,
    projection,
    size_figure,
)
from lit_unlearn.interference_study.measure import Measurement
from lit_unlearn.log_names import pairs
from lit_unlearn.report.drawing import save_pictures
from lit_unlearn.report.html import write_page
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.tables import csv_text, table

__all__ = ["SCHEMA_VERSION"]
__all__ += ["gallery", "preparation_file", "read_figures", "shown", "study_files", "summary_rows"]
__all__ += ["summary_table", "write_figures", "write_study"]

SCHEMA_VERSION = 1
"""Version of ``interference.json``; it increases when a key changes its name or meaning."""
PAGE, FIGURES, TABLE = (f"interference.{suffix}" for suffix in ("html", "json", "csv"))
PICTURES = "pictures"
_NOTES = {
    "Cosines of the objectives' gradients": "Means over batches of equal numbers of answer tokens; "
    "below 0 two objectives conflict. Cosines depend on the batch: the noise of small batches "
    "draws them towards 0, so compare only figures of one size.",
    "What a step for one objective does to another": "Rows: the objective for which a small step "
    "is taken; columns: the objective whose loss is read. The unit is the gain of an equal step "
    "for the column's objective; to first order the value is the cosine, and curvature changes it.",
    "Gap between the objectives' data": "Mean hidden states of each row at its answer positions. "
    "MMD^2 and A-distance are 0 for one domain, 0.79 and 2 for domains far apart; a covariance CKA "
    "of 1 says that both vary in the same directions.",
}


def write_figures(folder: Path, found: Sequence[Estimate], facts: Mapping[str, object]) -> None:
    """Write ``interference.json``, with the facts behind it, and ``interference.csv``."""
    figures = [each._asdict() for each in found]
    content = {"schema_version": SCHEMA_VERSION, **facts, "figures": figures}
    write_text(folder / FIGURES, json_text(content, indent=1) + "\n")
    rows = (["" if value != value else value for value in each] for each in found)
    write_text(folder / TABLE, csv_text([Estimate._fields, *rows]))


def read_figures(folder: Path) -> list[Estimate]:
    """Return the figures of ``interference.json``.

    Raises:
        InputError: The file is missing, or has another version.
    """
    file = folder / FIGURES
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{file}: expected the figures of `lit-unlearn interference`, found none ({error})"
        ) from error
    if (version := content.get("schema_version")) != SCHEMA_VERSION:
        raise InputError(
            f"{file}: expected version {SCHEMA_VERSION}, found {version}; measure again"
        )
    numbers = ("value", "low", "high")
    return [
        Estimate(**{**x, **{n: math.nan for n in numbers if x[n] is None}})
        for x in content["figures"]
    ]


def gallery(
    found: Sequence[Estimate], names: Sequence[str], measured: Mapping[str, Measurement]
) -> dict[str, dict[str, Figure]]:
    """Draw the pictures by section and title; a single objective has none."""
    if len(names) < 2:
        return {}
    middle = len(next(iter(next(iter(measured.values())).states.values()))) // 2
    points = {kind: projection(own.states, middle) for kind, own in measured.items()}
    cosines, transfer, gap = _NOTES
    sections = {
        cosines: {
            "cosines": matrix_figure(found, "cosine", names, "cosine"),
            "cosines per layer": layer_figure(found, names),
            "cosines by batch size": size_figure(found, names),
        },
        transfer: {"transfer": matrix_figure(found, "shared gain", names, "shared gain")},
        gap: {"gap per layer": gap_figure(found, names), "domains": domain_figure(points, middle)},
    }
    if not any(each.figure == "shared gain" for each in found):
        del sections[transfer]
    return sections


def study_files(folder: Path, representations: Iterable[str]) -> list[Path]:
    """Return the files that a study replaces, and a new file in its folder of pictures."""
    stored = (preparation_file(folder, kind) for kind in representations)
    names = (FIGURES, TABLE, PAGE, f"{PICTURES}/new")
    return [*(folder / name for name in names), *stored]


def preparation_file(folder: Path, representation: str) -> Path:
    """Return the file of the teacher's gate and answers of one representation."""
    return folder / f"preparation_{representation}.json"


def write_study(
    folder: Path,
    found: Sequence[Estimate],
    measured: Mapping[str, Measurement],
    facts: Mapping[str, Any],
) -> dict[str, Path]:
    """Write figures, table, pictures and page; return the files by their content.

    `facts` are model, settings, remarks, and the number of rows by representation and objective.
    """
    write_figures(folder, found, facts)
    drawn = gallery(found, list(next(iter(facts["rows"].values()))), measured)
    for figures in drawn.values():
        save_pictures(folder / PICTURES, figures)
    headings, cosines = summary_rows(found)
    values = {
        "title": f"Interference of objectives on {facts['model']}",
        "remarks": facts["remarks"],
        "pairs": {"columns": headings, "rows": cosines},
        "pictures": drawn,
        "notes": _NOTES,
        "figures": [(*each[:6], shown(each)) for each in found],
        "settings": json_text(facts, indent=2),
    }
    write_page(folder / PAGE, "interference", values)
    files = {"figures": FIGURES, "table": TABLE, "pictures": PICTURES, "page": PAGE}
    return {content: folder / name for content, name in files.items()}


def summary_rows(found: Sequence[Estimate]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return headings and rows: each pair's cosine per representation, and the difference."""
    whole = [x for x in found if x.where == WHOLE and x.figure in ("cosine", "cosine difference")]
    size = max((x.tokens for x in whole), default=0)
    kinds = list(dict.fromkeys(x.representation for x in whole))
    names = list(dict.fromkeys(n for x in whole for n in (x.first, x.second)))
    cells = {(x.representation, x.first, x.second): shown(x) for x in whole if x.tokens == size}
    rows = [
        (f"{a} ~ {b}", *(cells.get((kind, a, b), "-") for kind in kinds))
        for a, b in ((names[i], names[j]) for i, j in pairs(names))
    ]
    return ["pair", *kinds], rows


def summary_table(found: Sequence[Estimate]) -> Table:
    """Return `summary_rows` as a table for the terminal."""
    return table("cosine of gradients [95 % interval]", *summary_rows(found))


def shown(each: Estimate) -> str:
    """Return a value with its interval, as a text."""
    if math.isnan(each.value):
        return "n/a"
    text = f"{each.value:.3g}" if abs(each.value) < 0.01 else f"{each.value:.2f}"
    return text if math.isnan(each.low) else f"{text} [{each.low:.2f}, {each.high:.2f}]"
