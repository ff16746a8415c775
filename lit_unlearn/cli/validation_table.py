"""The table that `lit-unlearn validate` prints."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from torch import Tensor

from lit_unlearn.utils.tables import table

__all__ = ["validation_table"]


def validation_table(figures: Mapping[str, Tensor]) -> Table:
    """Return a row for each figure and a column for each objective.

    ``figures`` are those named `val/<figure>/<objective>` among the scalars of a trainer.
    """
    values: dict[str, dict[str, str]] = {}
    for name, value in figures.items():
        parts = name.split("/", 2)
        if parts[0] == "val":
            values.setdefault(parts[1], {})[parts[2]] = f"{float(value):.4g}"
    columns = list(dict.fromkeys(objective for own in values.values() for objective in own))
    rows = [
        [figure, *(own.get(objective, "") for objective in columns)]
        for figure, own in values.items()
    ]
    return table("Validation", ["figure", *columns], rows)
