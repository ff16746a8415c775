"""TensorBoard: all objectives in one chart, pictures of the layers, and the objectives' rows.

TensorBoard colours by run and not by name. So each pair and each objective has a run of its own, in
a folder below the run; their scalars have the same names, and share a chart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from lit_unlearn import log_names
from lit_unlearn.report import heatmap_figure, layers_figure, read_gradients
from lit_unlearn.utils.digests import text_digest

__all__ = ["MOST_PAIRS", "Board", "as_code", "layout", "side_by_side", "tensorboard"]

MOST_PAIRS = 21
"""Largest number of pairs, those of seven objectives, with a run each: an event file for each."""
_ROWS = 2
"""Rows of each objective that are shown as text."""
_BINS = np.linspace(-1, 1, 41)
_LONGEST = 100
"""Largest number of bytes in the name of a folder, before its checksum."""

Layout = dict[str, dict[str, list[Any]]]
"""TensorBoard's custom scalars: section -> chart -> kind and patterns of scalars' names."""


def tensorboard(trainer: Trainer) -> TensorBoardLogger | None:
    """Return the first logger of TensorBoard of a run, whichever other loggers it has."""
    found = (each for each in trainer.loggers if isinstance(each, TensorBoardLogger))
    return next(found, None)


class Board:
    """Writer of what only TensorBoard shows, in the first process of a run.

    Args:
        logger: Logger of the run.
        names: Names of the objectives.
        declining: Those that expect that the model declines.
        step: First step; what an interrupted run has written from there on is hidden.
        table: The gradient table of the run.
        every: Diagnosed steps between heat maps of one step; 0 for no heat maps.
    """

    def __init__(
        self,
        logger: TensorBoardLogger,
        names: Sequence[str],
        declining: Collection[str],
        step: int,
        table: Path,
        every: int,
    ) -> None:
        self.main = logger.experiment
        self._declining, self._table, self._every = declining, table, every
        self._drawn = 0
        """Number of diagnosed steps in the last heat maps over steps."""
        charts = layout(names)
        if charts:
            self.main.add_custom_scalars(charts)
        # TensorBoard gives out its colours in the order in which runs begin
        self._runs = {
            run: SummaryWriter(Path(logger.log_dir, *map(_folder, run)), purge_step=step or None)
            for run in side_by_side(_blank(names), declining)
        }

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a diagnosed step to all charts, and its cosines to the histogram."""
        for run, scalars in side_by_side(row, self._declining).items():
            for name, value in scalars.items():
                if math.isfinite(value):
                    self._runs[run].add_scalar(name, value, row["step"])
            self._runs[run].flush()
        couples = list(log_names.pairs(row["objectives"]))
        values = np.array([group[i][j] for group in row["group_cosines"] for i, j in couples])
        values = values[np.isfinite(values)].clip(-1, 1)
        if len(values):
            self.main.add_histogram("grad_cos/histogram", values, row["step"], bins=_BINS)

    def draw_due(self, row: dict[str, Any], count: int) -> None:
        """Draw the heat maps that are due at a diagnosed step, the table's last of ``count``."""
        above = np.triu_indices(len(row["objectives"]), 1)
        defined = np.isfinite(np.array(row["group_cosines"])[:, *above])
        if self._every and (count - 1) % self._every == 0 and defined.any():
            self.main.add_figure(
                "grad_cos/layer_groups", heatmap_figure([row], row["step"]), row["step"]
            )
        if count >= 2 * max(self._drawn, self._every):
            self.draw_history(count)

    def draw_history(self, count: int) -> None:
        """Draw the heat maps of the layers over all steps, if steps were added since the last."""
        if self._every and self._runs and count > self._drawn:
            self._drawn = count
            rows = read_gradients(self._table)
            self.main.add_figure("compare/layers", layers_figure(rows), rows[-1]["step"])

    def add_rows(self, data: Any, tokenizer: Any) -> None:
        """Add as text what student and teacher see of the first rows of each objective."""
        for name, rows in data.encoded.items():
            texts = [_row_text(candidates[0], tokenizer) for candidates in rows[:_ROWS]]
            duty = f"{len(rows)} rows, expected: {data.objectives[name].expect}"
            self.main.add_text(f"rows/{name}", "\n\n".join([duty, *texts]), 0)

    def close(self) -> None:
        """Close the event files of the pairs and objectives; the logger closes its own."""
        for writer in self._runs.values():
            writer.close()


def side_by_side(
    row: Mapping[str, Any], declining: Collection[str]
) -> dict[tuple[str, ...], dict[str, float]]:
    """Return run -> chart -> value of a diagnosed step, for runs below the run itself.

    A pair has a run if there are at most `MOST_PAIRS`. Pairs of an objective in `declining` with
    one that is not come first, since TensorBoard has seven colours, and have a chart of their own.
    The charts of one objective's pairs need no more runs than objectives. One objective has none.
    """
    names, cosines = row["objectives"], row["cosines"]
    couples = list(log_names.pairs(names))
    if not couples:
        return {}
    runs: dict[tuple[str, ...], dict[str, float]] = {}
    opposed = {(i, j) for i, j in couples if (names[i] in declining) != (names[j] in declining)}
    few = len(couples) <= MOST_PAIRS
    for i, j in sorted(couples, key=lambda pair: pair not in opposed) if few else []:
        charts = [log_names.COSINE_CHART, *[log_names.OPPOSED_CHART] * ((i, j) in opposed)]
        runs["pairs", f"{names[i]}~{names[j]}"] = dict.fromkeys(charts, cosines[i][j])
    for i, name in enumerate(names):
        others = (j for j in range(len(names)) if j != i)
        runs["objectives", name] = {
            log_names.LOSS_CHART: row["losses"][i],
            log_names.NORM_CHART: row["norms"][i],
            log_names.WEIGHT_CHART: row["weights"][i],
            log_names.UPDATE_CHART: row["update_cosines"][i],
            **{log_names.chart_with_name(names[j]): cosines[i][j] for j in others},
        }
    return runs | {("update",): {log_names.NORM_CHART: row["update_norm"]}}


def layout(names: Sequence[str]) -> Layout:
    """Return the charts of the tab Custom Scalars, each with patterns of its curves' names."""
    couples = [(names[i], names[j]) for i, j in log_names.pairs(names)]
    if not couples:
        return {}
    charts = {}
    if len(couples) <= MOST_PAIRS:
        charts["cosine of each pair"] = log_names.COSINE_CHART
        charts["cosine of opposed objectives"] = log_names.OPPOSED_CHART
    charts |= {f"cosine with {name}": log_names.chart_with_name(name) for name in names}
    charts |= {
        "cosine with the update": log_names.UPDATE_CHART,
        "gradient norms": log_names.NORM_CHART,
        "losses": log_names.LOSS_CHART,
        "weights": log_names.WEIGHT_CHART,
    }
    layers = {
        " ~ ".join(couple): [f"{re.escape(log_names.layer_cosine_name(*couple, ''))}.*"]
        for couple in couples
    }
    sections = {
        "objectives side by side": {title: [f"{re.escape(n)}$"] for title, n in charts.items()},
        "layer by layer": layers,
    }
    return {
        section: {title: ["Multiline", patterns] for title, patterns in each.items()}
        for section, each in sections.items()
    }


def as_code(text: str) -> str:
    """Return a text in Markdown that is shown as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _blank(names: Sequence[str]) -> dict[str, Any]:
    """Return a diagnosed step without values."""
    nothing = [math.nan] * len(names)
    row = dict.fromkeys(("losses", "norms", "weights", "update_cosines"), nothing)
    return {**row, "objectives": list(names), "cosines": [nothing] * len(names), "update_norm": 0}


def _folder(name: str) -> str:
    """Return a name that can be a folder's; one that was changed ends in its checksum."""
    plain = re.sub(r"[/\\\x00-\x1f]", "_", name).encode()[:_LONGEST].decode(errors="ignore")
    return name if plain == name else f"{plain}~{text_digest(name)[:8]}"


def _row_text(row: Any, tokenizer: Any) -> str:
    """Return what the student and the teacher see of a row, and the answer, with special tokens."""
    end = row.student_start + row.target_count
    parts = {
        "student": row.student_ids[: row.student_start],
        "teacher": row.teacher_ids[: row.teacher_start],
        "answer": row.student_ids[row.student_start : end],
    }
    shown = (f"**{part}**\n\n{as_code(tokenizer.decode(ids))}" for part, ids in parts.items())
    return "\n\n".join([f"**{row.example_id}**", *shown])
