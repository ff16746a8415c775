"""What the measurement leaves: figures as JSON and CSV, pictures, and one page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from lit_unlearn.errors import InputError
from lit_unlearn.interference_study.figures import WHOLE, Line
from lit_unlearn.interference_study.interference_pictures import (
    domain_figure,
    gap_figure,
    layer_figure,
    matrix_figure,
    projection,
    size_figure,
)
from lit_unlearn.interference_study.measure import Measured
from lit_unlearn.log_names import pairs
from lit_unlearn.report import html as pages
from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.tables import table

SCHEMA_VERSION = 1
"""Of ``interference.json``; raised when a key changes its name or meaning."""
PAGE, FIGURES, TABLE, PICTURES = (
    "interference.html",
    "interference.json",
    "interference.csv",
    "pictures",
)
_NOTES = {
    "Cosines of the objectives' gradients": "Means over batches of equal numbers of answer tokens; "
    "below 0 two objectives conflict. Cosines depend on the batch: the noise of small batches "
    "draws them towards 0, so compare only figures of one size.",
    "What a step for one objective does to another": "Rows: the objective for which a small step "
    "is taken; columns: whose loss is read. In units of what an equal step for the column's own "
    "objective brings, which to first order is the cosine; where the two differ, curvature counts.",
    "Gap between the objectives' data": "Mean hidden states of each row at its answer positions. "
    "MMD^2 and A-distance are 0 for one domain, 0.79 and 2 for domains far apart; a covariance CKA "
    "of 1 says that both vary in the same directions.",
}


def write_figures(folder: Path, lines: Sequence[Line], facts: Mapping[str, object]) -> None:
    """Write ``interference.json`` and ``interference.csv``: all lines, and how they were made."""
    content = {"schema_version": SCHEMA_VERSION, **facts, "figures": [x._asdict() for x in lines]}
    write_text(folder / FIGURES, json_text(content, indent=1) + "\n")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Line._fields)
    for line in lines:
        writer.writerow(["" if value != value else value for value in line])
    write_text(folder / TABLE, text.getvalue())


def read_figures(folder: Path) -> list[Line]:
    """The lines of ``interference.json``.

    Raises:
        InputError: The folder holds none, or one of another version.
    """
    file = folder / FIGURES
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{file}: expected the figures of `lit-unlearn interference`, found none ({error})"
        ) from error
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{file}: expected version {SCHEMA_VERSION}, found {version}; measure anew"
        )
    numbers = ("value", "low", "high")
    lines = ({**x, **{n: math.nan for n in numbers if x[n] is None}} for x in content["figures"])
    return [Line(**line) for line in lines]


def gallery(
    lines: Sequence[Line], names: Sequence[str], measured: Mapping[str, Measured]
) -> dict[str, dict[str, Figure]]:
    """The pictures, by section and title; there is none of a single objective."""
    if len(names) < 2:
        return {}
    layers = next(iter(next(iter(measured.values())).states.values())).shape[0]
    middle = layers // 2
    points = {kind: projection(found.states, middle) for kind, found in measured.items()}
    cosines, transfer, gap = _NOTES
    found = {
        cosines: {
            "cosines": matrix_figure(lines, "cosine", names, "cosine"),
            "cosines per layer": layer_figure(lines, names),
            "cosines by batch size": size_figure(lines, names),
        },
        transfer: {"transfer": matrix_figure(lines, "shared gain", names, "shared gain")},
        gap: {
            "gap per layer": gap_figure(lines, names),
            "domains": domain_figure(points, middle),
        },
    }
    if not any(line.figure == "shared gain" for line in lines):
        del found[transfer]
    return found


def write_page(
    path: Path,
    title: str,
    lines: Sequence[Line],
    drawn: Mapping[str, Mapping[str, Figure]],
    remarks: Sequence[str],
    facts: Mapping[str, object],
) -> None:
    """Write the page, all at once or not at all.

    Args:
        path: The HTML file.
        title: Heading.
        lines: All figures.
        drawn: See `gallery`.
        remarks: Sentences under the heading.
        facts: How the figures were made.
    """
    headings, cosines = summary_rows(lines)
    values = {
        "title": title,
        "remarks": remarks,
        "pairs": {"columns": headings, "rows": cosines},
        "pictures": drawn,
        "notes": _NOTES,
        "figures": [(*line[:6], shown(line)) for line in lines],
        "settings": json_text(facts, indent=2),
    }
    pages.write_page(path, "interference", values)


def summary_rows(lines: Sequence[Line]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headings and rows: each pair's cosine per representation, and the difference."""
    whole = [x for x in lines if x.where == WHOLE and x.figure in ("cosine", "cosine difference")]
    size = max((x.tokens for x in whole), default=0)
    kinds = list(dict.fromkeys(x.representation for x in whole))
    names = list(dict.fromkeys(n for x in whole for n in (x.first, x.second)))
    cells = {(x.representation, x.first, x.second): shown(x) for x in whole if x.tokens == size}
    rows = []
    for i, j in pairs(names):
        key = names[i], names[j]
        rows.append((f"{key[0]} ~ {key[1]}", *(cells.get((k, *key), "-") for k in kinds)))
    return ["pair", *kinds], rows


def summary_table(lines: Sequence[Line]) -> Table:
    """Return the same for the terminal."""
    return table("cosine of gradients [95 % interval]", *summary_rows(lines))


def shown(line: Line) -> str:
    """A value with its interval."""
    if math.isnan(line.value):
        return "n/a"
    text = f"{line.value:.3g}" if abs(line.value) < 0.01 else f"{line.value:.2f}"
    return text if math.isnan(line.low) else f"{text} [{line.low:.2f}, {line.high:.2f}]"
