"""The pictures of an evaluation, for its page and as PNG files."""

import math
import re
from collections.abc import Sequence

from matplotlib.figure import Figure as Picture

from lit_unlearn.evaluation.probes import BlockMap, Figure
from lit_unlearn.evaluation.suites.common import SHARE
from lit_unlearn.evaluation.suites.recovery import UNATTACKED
from lit_unlearn.report.block_pictures import block_picture
from lit_unlearn.report.evaluation_pictures import (
    balance_picture,
    has_value,
    recovery_picture,
    suite_picture,
)
from lit_unlearn.report.evaluation_table import BALANCE, Columns, Line, side_by_side
from lit_unlearn.utils.grouping import grouped

__all__ = ["balance_parts", "gallery"]

_RELEARNED = re.compile(r"(?P<rows>.+)/(?P<steps>\d+)/recall")
"""Name of a figure of the suite Relearn: the rows to relearn from, and the number of steps."""
_PART = "part/"


def gallery(columns: Columns) -> dict[str, Picture]:
    """Draw the pictures of suites, relearning curves and the balance; title -> picture.

    A suite without values has no picture.
    """
    found: dict[str, Picture] = {}
    for suite, members in grouped(side_by_side(columns), lambda line: line.suite).items():
        if suite != BALANCE and any(has_value(cell) for line in members for cell in line.cells):
            found[suite] = suite_picture(list(columns), members)
            found |= _curves(columns, suite, members)
            found |= _maps(columns, suite)
    parts = balance_parts(columns)
    known = {n for column in parts.values() for n, value in column.items() if math.isfinite(value)}
    if len(known) >= 3:
        found[BALANCE] = balance_picture(parts)
    return found


def balance_parts(columns: Columns) -> dict[str, dict[str, float]]:
    """Return heading -> part of the balanced score -> value, without the score itself."""
    return {
        heading: {f.name.removeprefix(_PART): f.value for f in record.balance if _PART in f.name}
        for heading, record in columns.items()
        if record.balance
    }


def _maps(columns: Columns, suite: str) -> dict[str, Picture]:
    """Draw what a suite found by block, for each title that it gave."""
    maps: dict[str, dict[str, BlockMap]] = {}
    for heading, record in columns.items():
        for title, own in record.suites[suite].maps.items() if suite in record.suites else ():
            maps.setdefault(title, {})[heading] = own
    return {f"{suite} {title}": block_picture(own, title) for title, own in maps.items()}


def _curves(columns: Columns, suite: str, lines: Sequence[Line]) -> dict[str, Picture]:
    """Draw recall over steps of relearning, for each set of rows; step 0 is without relearning."""
    records = [record.suites[suite] for record in columns.values() if suite in record.suites]
    if records[0].settings.get("class") != "Relearn":
        return {}
    nothing: list[Figure | None] = [None] * len(columns)
    first = {line.name: line.cells for line in lines}.get(f"{UNATTACKED}/recall", nothing)
    points: dict[str, dict[str, list[tuple[int, Figure]]]] = {}
    for line in lines:
        match = _RELEARNED.fullmatch(line.name)
        if match is None:
            continue
        curves = points.setdefault(f"recall after relearning from {match['rows']}", {})
        for heading, start, cell in zip(columns, first, line.cells, strict=True):
            curve = curves.setdefault(heading, [(0, start)] if start else [])
            curve += [(int(match["steps"]), cell)] if cell else []
    return {
        f"{suite} {label}": recovery_picture(curves, label, SHARE)
        for label, curves in points.items()
    }
